// SPDX-License-Identifier: Apache-2.0
#include "local_devices/binding.h"

#include "base/keep_first.h"
#include "local_devices/pci_tree.h"
#include "local_devices/reset.h"
#include "pci/address.h"

#include <algorithm>
#include <chrono>
#include <ranges>

namespace lanepool::local_devices {

namespace {

using namespace std::chrono_literals;

constexpr auto unbind_timeout = 20s;
constexpr auto probe_timeout = 20s; // a driver that starts its device may take seconds
constexpr auto attribute_timeout = 5s;
constexpr auto lock_timeout = 5s;
constexpr auto module_timeout = 20s;

// While a bind or an unbind is under way, which somebody (an agent that was killed) has begun, the link to
// the driver is there too early or gone too early, and drivers_probe does nothing. The kernel takes the
// function's lock for that, and also for a write to power/control, even of what stands there.
Result<> wait_for_others(System& system, const pci::Address& function) {
    const std::string path = attribute(function, "power/control");
    const std::string text = text_of(system, path);
    if (text.empty()) return {};
    const auto written = system.write(path, text, lock_timeout);
    if (!written && written.error().code() == Errc::timeout)
        return fail(Errc::timeout, "{}: the kernel is still busy with it: {}", pci::to_string(function),
                    written.error().message());
    return {};
}

Result<> set_override(System& system, const pci::Address& function, std::string_view driver) {
    if (driver_override_of(system, function) == driver) return {};
    // An empty write would not reach the kernel; a line feed alone takes the override away.
    TRY(system.write(attribute(function, "driver_override"), std::string(driver) + '\n', attribute_timeout));
    const std::string now = driver_override_of(system, function);
    if (now != driver)
        return fail(Errc::io, "{}: its driver_override was set to '{}' and is '{}'", pci::to_string(function),
                    driver, now);
    return {};
}

Result<> unbind(System& system, const pci::Address& function) {
    const std::string driver = driver_of(system, function);
    if (driver.empty()) return {};
    const auto written =
        system.write(attribute(function, "driver/unbind"), pci::to_string(function), unbind_timeout);
    if (driver_of(system, function).empty()) return {}; // also where somebody else was faster
    if (!written && written.error().code() == Errc::timeout)
        return fail(
            Errc::timeout,
            "{}: the driver {} does not let go of it: somebody still uses it, or the driver hangs ({})",
            pci::to_string(function), driver, written.error().message());
    if (!written) return tl::unexpected(written.error().within(pci::to_string(function)));
    return fail(Errc::io, "{}: the driver {} still has it after an unbind", pci::to_string(function), driver);
}

// Lets the kernel look for a driver. Whether it found the right one shows afterwards, so what it says itself
// is for messages only.
std::string probe(System& system, const pci::Address& function) {
    const auto written = system.write("/sys/bus/pci/drivers_probe", pci::to_string(function), probe_timeout);
    return written ? "the driver refused it; `dmesg` may say why" : written.error().message();
}

Result<> bind_vfio(System& system, const pci::Address& function) {
    if (driver_of(system, function) == vfio_driver) return {};
    const std::string reason = probe(system, function);
    const std::string driver = driver_of(system, function);
    if (driver == vfio_driver) return {};
    if (!driver.empty())
        return fail(Errc::io, "{}: the driver {} has it instead of {}", pci::to_string(function), driver,
                    vfio_driver);
    return fail(Errc::io, "{}: {} did not take it: {}", pci::to_string(function), vfio_driver, reason);
}

// Whether MEMBER's place still has what was taken.
bool still_there(System& system, const Member& member) {
    return present(system, member.address) &&
           may_be_same(identity_of(system, member.address), member.identity);
}

Result<> release(System& system, const Member& member) {
    if (!still_there(system, member)) return {};
    TRY(wait_for_others(system, member.address));
    TRY(set_override(system, member.address, member.driver_override));
    const std::string driver = driver_of(system, member.address);
    if (driver != member.driver && driver == vfio_driver) TRY(unbind(system, member.address));
    return {};
}

Result<> restore_resets(System& system, const Member& member) {
    if (!member.reset_method || !still_there(system, member)) return {};
    return restore_reset_methods(system, member.address, *member.reset_method);
}

Result<> bind_former_driver(System& system, const Member& member) {
    const auto& function = member.address;
    const auto has_it = [&] { return driver_of(system, function) == member.driver; };
    if (!still_there(system, member) || has_it()) return {};
    // A function that had no driver is not offered to any. One that has another driver by now got it from
    // somebody who has the right to.
    if (member.driver.empty() || !driver_of(system, function).empty()) return {};
    std::string reason = probe(system, function);
    if (has_it()) return {};
    // Where several drivers would take it, or none unasked (a VF whose parent has sriov_drivers_autoprobe
    // off), it gets the one that it had by name.
    TRY(unbind(system, function));
    TRY(set_override(system, function, member.driver));
    reason = probe(system, function);
    TRY(set_override(system, function, member.driver_override));
    if (has_it() || !still_there(system, member)) return {};
    const bool driver_exists = system.exists(fmt::format("/sys/bus/pci/drivers/{}", member.driver));
    if (!driver_exists) reason = "this kernel has not loaded that driver any more";
    return fail(Errc::io, "{}: its own driver {} did not take it again: {}", pci::to_string(function),
                member.driver, reason);
}

} // namespace

Member remember(System& system, const pci::Address& function) {
    Member member;
    member.address = function;
    member.identity = identity_of(system, function);
    member.driver = driver_of(system, function);
    member.driver_override = driver_override_of(system, function);
    if (auto methods = text_of(system, attribute(function, "reset_method")); !methods.empty())
        member.reset_method = std::move(methods);
    return member;
}

Result<> ensure_vfio_driver(System& system) {
    const std::string folder = fmt::format("/sys/bus/pci/drivers/{}", vfio_driver);
    if (system.exists(folder)) return {};
    const auto loaded = system.load_module(std::string(vfio_driver), module_timeout);
    if (system.exists(folder)) return {};
    return fail(Errc::failed_precondition, "this kernel has no driver {}{}", vfio_driver,
                loaded ? ", although its module is loaded" : ": " + loaded.error().message());
}

// The whole group is without drivers before any of it gets a new one: the kernel gives user space no device
// of a group in which another driver may start DMA.
Result<> unbind_for_vfio(System& system, std::span<const Member> members) {
    for (const auto& member : members) {
        TRY(wait_for_others(system, member.address));
        TRY(set_override(system, member.address, vfio_driver));
    }
    for (const auto& member : members)
        if (driver_of(system, member.address) != vfio_driver) TRY(unbind(system, member.address));
    return {};
}

Result<> bind_to_vfio(System& system, std::span<const Member> members) {
    for (const auto& member : members)
        TRY(bind_vfio(system, member.address));
    return {};
}

Result<> bind_as_before(System& system, std::span<const Member> members) {
    Result<> result;
    std::vector<const Member*> free;
    for (const auto& member : members | std::views::reverse) {
        auto released = release(system, member);
        if (released) free.push_back(&member); // else every further try might take as long
        keep_first(result, std::move(released));
    }
    for (const Member* const member : free) {
        keep_first(result, restore_resets(system, *member));
        keep_first(result, bind_former_driver(system, *member));
    }
    return result;
}

} // namespace lanepool::local_devices
