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

// The other functions on the same bus, which a reset of that bus would reset with it.
std::vector<pci::Address> neighbours_of(System& system, const pci::Address& function) {
    std::vector<pci::Address> neighbours;
    const auto entries = system.list("/sys/bus/pci/devices");
    if (!entries) return neighbours;
    for (const auto& entry : *entries) {
        const auto other = pci::parse_address(entry.name);
        if (other && *other != function && other->domain == function.domain && other->bus == function.bus)
            neighbours.push_back(*other);
    }
    return neighbours;
}

bool is_behind_a_bridge(System& system, const pci::Address& function) {
    const auto folder = target_of(system, attribute(function));
    if (!folder) return false;
    return pci::parse_address(last_name(folder->substr(0, folder->rfind('/')))).has_value();
}

// The file of FUNCTION's first BAR that is memory; empty: it has none. A line of `resource` is a BAR's first
// and last address and its flags.
std::string register_file_of(System& system, const pci::Address& function) {
    constexpr uint64_t is_memory = 0x200; // IORESOURCE_MEM
    std::istringstream lines(text_of(system, attribute(function, "resource")));
    uint64_t first = 0, last = 0, flags = 0;
    lines >> std::hex;
    for (unsigned bar = 0; bar < pci::bar_count && lines >> first >> last >> flags; ++bar)
        if (first != 0 && (flags & is_memory) != 0)
            return attribute(function, fmt::format("resource{}", bar));
    return {};
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

// What FUNCTION is like before the first try: all are measured by that.
struct Before {
    bool is_virtual = false;
    Header header;
    std::string registers; // the file of a BAR that answers; empty: none, or it is not known
};

Before look_at(System& system, const pci::Address& function, bool enabled) {
    Before before{parent_of(system, function).has_value(), header_of(system, function), {}};
    const std::string registers = enabled ? register_file_of(system, function) : std::string();
    // What reads as all ones even now, or may not be read (kernel lockdown), says nothing.
    const auto silent = registers.empty() ? Result<bool>(true) : system.reads_all_ones(registers);
    if (silent && !*silent) before.registers = registers;
    return before;
}

Result<> try_method(System& system, const pci::Address& function, const std::string& method,
                    const Before& before) {
    TRY(set_methods(system, function, method));
    TRY(system.write(attribute(function, "reset"), "1", reset_timeout));
    const Header after = header_of(system, function);
    if (!same(before.header, after, before.is_virtual))
        return fail(Errc::io, "the kernel calls it done, but the function {}",
                    after.answers() ? "has lost its configuration" : "does not answer any more");
    if (!before.registers.empty() && TRY(system.reads_all_ones(before.registers)))
        return fail(Errc::io,
                    "the kernel calls it done, but the function's registers do not answer any more");
    return {};
}

// The first of METHODS that works, or why none does.
Result<std::string> first_that_works(System& system, const pci::Address& function,
                                     const std::vector<std::string>& methods, const Before& before) {
    if (!before.is_virtual && !before.header.answers())
        return fail(Errc::failed_precondition, "; the function does not answer, even before a reset");
    std::string reasons;
    for (const auto& method : methods) {
        const auto tried = try_method(system, function, method, before);
        if (tried) return method;
        reasons += fmt::format("; {}: {}", method, tried.error().message());
    }
    return fail(Errc::failed_precondition, "{}", reasons);
}

} // namespace

Result<> restore_reset_methods(System& system, const pci::Address& function, const std::string& list) {
    const std::string path = attribute(function, "reset_method");
    if (!system.exists(path) || text_of(system, path) == list) return {};
    auto written = set_methods(system, function, list);
    if (written || written.error().code() != Errc::invalid_argument) return written;
    return set_methods(system, function, "default");
}

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
    if (!neighbours_of(system, function).empty()) std::erase_if(methods, reaches_the_bus);
    const auto rank = [](const std::string& method) {
        return std::ranges::find(best_first, method) - std::begin(best_first);
    };
    std::ranges::stable_sort(methods, {}, rank);
    return methods;
}

Result<std::string> choose_reset_method(System& system, const pci::Address& function,
                                        std::span<const pci::Address> taken) {
    const auto listed = TRY(reset_methods(system, function));
    const auto usable = TRY(usable_reset_methods(system, function));
    // Turns memory space on, which the kernel refuses where a driver has the function.
    const std::string enable = attribute(function, "enable");
    const bool enabled = driver_of(system, function).empty() && system.write(enable, "1", attribute_timeout);
    auto found = first_that_works(system, function, usable, look_at(system, function, enabled));
    if (enabled) (void)system.write(enable, "0", attribute_timeout);
    if (found) return found;
    std::string reasons = found.error().message();
    TRY(restore_reset_methods(system, function, fmt::format("{}", fmt::join(listed, " "))));
    const auto neighbours = neighbours_of(system, function);
    const auto stranger = std::ranges::find_if(neighbours, [&](const pci::Address& neighbour) {
        return std::ranges::find(taken, neighbour) == taken.end();
    });
    if (stranger != neighbours.end())
        reasons += fmt::format("; a reset of its bus would reset {}, too", pci::to_string(*stranger));
    else if (!neighbours.empty() && is_behind_a_bridge(system, function))
        return std::string(hot_reset);
    if (listed.empty()) reasons += "; the kernel knows none";
    return fail(Errc::failed_precondition, "{} has no reset that works, so it cannot be lent{}",
                pci::to_string(function), reasons);
}

} // namespace lanepool::local_devices
