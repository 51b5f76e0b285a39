// SPDX-License-Identifier: Apache-2.0
#include "local_devices/reset.h"

#include "local_devices/pci_tree.h"
#include "pci/address.h"
#include "pci/config_space.h"

#include <algorithm>
#include <chrono>
#include <sstream>

namespace lanepool::local_devices {

namespace {

using namespace std::chrono_literals;

constexpr auto reset_timeout = 70s; // the kernel waits up to 60 s for a function to come back
constexpr auto attribute_timeout = 5s;

// The kernel has a method of a device's own only where it knows that the others do not do for that device.
// `pm` is last but for `bus`: many devices keep some of their state in D3hot.
constexpr std::string_view best_first[] = {"device_specific", "flr", "af_flr", "acpi", "pm", "bus",
                                           "cxl_bus"};

bool reaches_the_bus(const std::string& method) { return method == "bus" || method == "cxl_bus"; }

// Another function on the same bus, which a reset of that bus would reset with it.
std::optional<pci::Address> neighbour_of(System& system, const pci::Address& function) {
    const auto entries = system.list("/sys/bus/pci/devices");
    if (!entries) return std::nullopt;
    for (const auto& entry : *entries) {
        const auto other = pci::parse_address(entry.name);
        if (other && *other != function && other->domain == function.domain && other->bus == function.bus)
            return *other;
    }
    return std::nullopt;
}

Result<> set_methods(System& system, const pci::Address& function, const std::string& methods) {
    return system.write(attribute(function, "reset_method"), methods + '\n', attribute_timeout);
}

struct Header {
    std::string bytes; // of the type-0 header
    bool answers() const {
        return bytes.size() == header_bytes &&
               std::ranges::any_of(bytes.substr(0, 4), [](char byte) { return byte != '\xff'; });
    }
    static constexpr size_t header_bytes = 0x40;
};

Header header_of(System& system, const pci::Address& function) {
    auto config = system.read(attribute(function, "config"));
    if (!config) return {};
    config->resize(std::min(config->size(), Header::header_bytes));
    // The upper byte of Status holds errors that were seen, and Interrupt Line means nothing to the function.
    if (config->size() == Header::header_bytes) {
        (*config)[pci::config::status + 1] = 0;
        (*config)[pci::config::interrupt_line] = 0;
    }
    return {std::move(*config)};
}

// A VF's identity registers read as all-ones (PCI Express Base Specification 9.3.4.1.1).
bool same(const Header& before, const Header& after, bool is_virtual) {
    return before.bytes == after.bytes && (is_virtual || after.answers());
}

Result<> try_method(System& system, const pci::Address& function, const std::string& method) {
    const bool is_virtual = parent_of(system, function).has_value();
    const Header before = header_of(system, function);
    if (!is_virtual && !before.answers())
        return fail(Errc::io, "the function does not answer, even before a reset");
    TRY(set_methods(system, function, method));
    TRY(system.write(attribute(function, "reset"), "1", reset_timeout));
    const Header after = header_of(system, function);
    if (!same(before, after, is_virtual))
        return fail(Errc::io, "the kernel calls it done, but the function {}",
                    after.answers() ? "has lost its configuration" : "does not answer any more");
    return {};
}

} // namespace

Result<std::vector<std::string>> reset_methods(System& system, const pci::Address& function) {
    TRY(real_folder(system, function));
    std::istringstream words(text_of(system, attribute(function, "reset_method")));
    std::vector<std::string> methods;
    for (std::string word; words >> word;)
        methods.push_back(word);
    return methods;
}

Result<std::vector<std::string>> usable_reset_methods(System& system, const pci::Address& function) {
    auto methods = TRY(reset_methods(system, function));
    if (neighbour_of(system, function)) std::erase_if(methods, reaches_the_bus);
    const auto rank = [](const std::string& method) {
        return std::ranges::find(best_first, method) - std::begin(best_first);
    };
    std::ranges::stable_sort(methods, {}, rank);
    return methods;
}

Result<std::string> choose_reset_method(System& system, const pci::Address& function) {
    const auto listed = TRY(reset_methods(system, function));
    std::string reasons;
    for (const auto& method : TRY(usable_reset_methods(system, function))) {
        const auto tried = try_method(system, function, method);
        if (tried) return method;
        reasons += fmt::format("; {}: {}", method, tried.error().message());
    }
    if (!listed.empty()) TRY(set_methods(system, function, fmt::format("{}", fmt::join(listed, " "))));
    if (listed.empty()) reasons += "; the kernel knows none";
    for (const auto& method : listed)
        if (const auto neighbour = neighbour_of(system, function); neighbour && reaches_the_bus(method))
            reasons += fmt::format("; {}: it would reset {}, too", method, pci::to_string(*neighbour));
    return fail(Errc::failed_precondition, "{} has no reset that works, so it cannot be lent{}",
                pci::to_string(function), reasons);
}

} // namespace lanepool::local_devices
