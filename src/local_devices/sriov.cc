// SPDX-License-Identifier: Apache-2.0
#include "local_devices/sriov.h"

#include "local_devices/holders.h"
#include "local_devices/nic_functions.h"
#include "local_devices/nvme_functions.h"
#include "local_devices/pci_tree.h"
#include "pci/address.h"

#include <algorithm>
#include <charconv>
#include <chrono>

namespace lanepool::local_devices {

namespace {

using namespace std::chrono_literals;

constexpr auto attribute_timeout = 5s;
constexpr auto look_again = 20ms;

unsigned number_in(System& system, const pci::Address& function, std::string_view name) {
    const std::string text = text_of(system, attribute(function, name));
    unsigned value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
}

// As long as VFs of lanepool's making exist this stays off: a driver that udev loads for them would grab them
// later, too. With the last of them it is on again, which is how the kernel begins.
Result<> set_autoprobe(System& system, const pci::Address& parent, bool on) {
    const std::string path = attribute(parent, "sriov_drivers_autoprobe");
    if (text_of(system, path) == (on ? "1" : "0")) return {};
    return system.write(path, on ? "1" : "0", attribute_timeout);
}

Result<> write_count(System& system, const pci::Address& parent, unsigned count, io::TimePoint deadline) {
    const auto left = deadline - system.now();
    if (left <= 0s) return fail(Errc::timeout, "{}: there was no time left", pci::to_string(parent));
    const auto written = system.write(attribute(parent, "sriov_numvfs"), std::to_string(count), left);
    if (written) return {};
    const std::string driver = driver_of(system, parent);
    return fail(written.error().code(), "{}: its driver {} does not set up {} VFs: {}",
                pci::to_string(parent), driver.empty() ? "(none)" : driver, count, written.error().message());
}

Result<std::vector<pci::Address>> wait_for_functions(System& system, const pci::Address& parent,
                                                     unsigned count, io::TimePoint deadline) {
    while (true) {
        auto functions = virtual_functions_of(system, parent);
        const bool there = std::ranges::all_of(
            functions, [&](const pci::Address& function) { return present(system, function); });
        if (there && functions.size() == count && number_in(system, parent, "sriov_numvfs") == count)
            return functions;
        if (system.now() >= deadline)
            return fail(Errc::timeout, "{} has {} VFs instead of {}", pci::to_string(parent),
                        functions.size(), count);
        system.pause(look_again);
    }
}

Result<> remove_functions(System& system, const pci::Address& parent, io::TimePoint deadline) {
    TRY(write_count(system, parent, 0, deadline));
    TRY(wait_for_functions(system, parent, 0, deadline));
    return set_autoprobe(system, parent, true);
}

Result<> refuse_if_used(System& system, const pci::Address& parent,
                        const std::vector<pci::Address>& functions) {
    const auto users = holders_of(system, functions);
    if (users.empty()) return {};
    return fail(Errc::busy, "VFs of {} are in use: {}", pci::to_string(parent), fmt::join(users, "; "));
}

Result<std::vector<pci::Address>> add_functions(System& system, const pci::Address& parent, unsigned count,
                                                io::TimePoint deadline) {
    TRY(make_room_for_secondaries(system, parent, count, deadline));
    TRY(set_autoprobe(system, parent, false));
    TRY(write_count(system, parent, count, deadline));
    auto functions = TRY(wait_for_functions(system, parent, count, deadline));
    TRY(bring_secondaries_online(system, parent, count));
    return functions;
}

// The network interface of a physical function that sets up its VFs; empty: it has none.
std::string interface_of(System& system, const pci::Address& parent) {
    const auto entries = system.list(attribute(parent, "net"));
    return entries && !entries->empty() ? entries->front().name : std::string();
}

} // namespace

Result<SriovState> sriov(System& system, const pci::Address& parent) {
    TRY(real_folder(system, parent));
    return SriovState{number_in(system, parent, "sriov_totalvfs"), number_in(system, parent, "sriov_numvfs"),
                      virtual_functions_of(system, parent)};
}

Result<SriovState> sriov(const Paths& paths, const pci::Address& parent) {
    return sriov(*linux_system(paths), parent);
}

Result<std::vector<pci::Address>> set_functions(System& system, const pci::Address& parent, unsigned count,
                                                io::TimePoint deadline) {
    const auto state = TRY(sriov(system, parent));
    if (state.total == 0)
        return fail(Errc::not_supported, "{} has no SR-IOV, or the firmware has left no room for VFs",
                    pci::to_string(parent));
    if (count > state.total)
        return fail(Errc::out_of_range, "{} can have at most {} VFs, not {}", pci::to_string(parent),
                    state.total, count);
    if (count == state.enabled && count == state.functions.size()) {
        if (count == 0) TRY(set_autoprobe(system, parent, true));
        TRY(bring_secondaries_online(system, parent, count)); // an earlier call may have been cut off
        return state.functions;
    }
    TRY(refuse_if_used(system, parent, state.functions));
    if (state.enabled > 0) TRY(remove_functions(system, parent, deadline));
    if (count == 0) return std::vector<pci::Address>();
    auto functions = add_functions(system, parent, count, deadline);
    if (functions) return functions;
    const auto removed = remove_functions(system, parent, std::max(deadline, system.now() + 5s));
    if (removed) return functions;
    return fail(functions.error().code(), "{}; and then they could not be removed: {}",
                functions.error().message(), removed.error().message());
}

Result<std::vector<pci::Address>> set_functions(const Paths& paths, const pci::Address& parent,
                                                unsigned count, io::TimePoint deadline) {
    return set_functions(*linux_system(paths), parent, count, deadline);
}

Result<> clean_function(System& system, const pci::Address& vf) {
    TRY(real_folder(system, vf));
    const auto parent = parent_of(system, vf);
    if (!parent) return fail(Errc::invalid_argument, "{} is no virtual function", pci::to_string(vf));
    const auto siblings = virtual_functions_of(system, *parent);
    const auto found = std::ranges::find(siblings, vf);
    if (found == siblings.end())
        return fail(Errc::io, "{} is not among the VFs of {}", pci::to_string(vf), pci::to_string(*parent));
    const auto index = static_cast<unsigned>(found - siblings.begin());
    constexpr uint32_t network_class = 0x02;
    const auto class_code = class_code_of(system, *parent);
    if (class_code && *class_code >> 16 == network_class) {
        const std::string interface = interface_of(system, *parent);
        if (interface.empty())
            return fail(Errc::failed_precondition,
                        "{}: the interface of {} is not in this network namespace, or without its driver, so "
                        "what its last borrower has left cannot be seen",
                        pci::to_string(vf), pci::to_string(*parent));
        return clean_nic_function(system, interface, index);
    }
    if (nvme_node_of(system, *parent))
        return bring_secondary_online(system, *parent, index, static_cast<unsigned>(siblings.size()));
    return {};
}

Result<> clean_function(const Paths& paths, const pci::Address& vf) {
    return clean_function(*linux_system(paths), vf);
}

} // namespace lanepool::local_devices
