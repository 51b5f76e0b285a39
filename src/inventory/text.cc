// SPDX-License-Identifier: Apache-2.0
#include "inventory/text.h"

#include "inventory/json.h"
#include "inventory/links.h"
#include "inventory/names.h"
#include "inventory/paths.h"
#include "pci/address.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <map>
#include <set>

namespace lanepool::inventory {

namespace {

using Lines = std::vector<std::pair<std::string, std::string>>;

std::string line_of(const Machine& machine, const Function& function) {
    std::string line =
        fmt::format("{} {} {}", pci::to_string(function.address), kind_of(function), title_of(function));
    if (function.driver) line += fmt::format(" [{}]", function.driver->name);
    if (function.link) line += " " + link_text(function.link);
    if (is_degraded(machine, function))
        line += fmt::format(" (could be {})", link_text(possible_link(machine, function)));
    if (function.iommu_group) line += fmt::format(" group {}", *function.iommu_group);
    if (function.acs)
        line += fmt::format(" ACS {}", acs_text(*function.acs));
    else if (function.bridge && function.type != FunctionType::upstream_port)
        line += function.config_complete ? " no ACS" : " ACS not known";
    return line;
}

using Children = std::map<std::optional<pci::Address>, std::vector<const Function*>>;

void add_below(const Machine& machine, const Children& children, const std::optional<pci::Address>& above,
               const std::string& indent, std::string& text) {
    const auto found = children.find(above);
    if (found == children.end() || indent.size() > 256) return;
    for (const auto* function : found->second) {
        const bool last = function == found->second.back();
        text += indent + (last ? "`- " : "|- ") + line_of(machine, *function) + "\n";
        add_below(machine, children, function->address, indent + (last ? "   " : "|  "), text);
    }
}

bool can_be_lent(const Function& function) {
    const auto kind = kind_of(function);
    return !function.bridge &&
           (kind == "nvme" || kind == "gpu" || kind == "nic" || kind == "fpga" ||
            function.class_code >> 16 == 0xff) &&
           function.vendor_id != 0 && function.device_id != 0;
}

// A name as hosts have it: letters, digits, '.', '_' and '-', at most 63.
std::string host_name(std::string text) {
    text.resize(std::min<size_t>(text.size(), 63));
    for (char& c : text)
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
              c == '_' || c == '-'))
            c = '-';
    const auto first = text.find_first_not_of(".-_");
    return first == std::string::npos ? "host" : text.substr(first);
}

std::string bars_text(const Function& function) {
    std::vector<std::string> bars;
    for (size_t i = 0; i < function.bars.size(); ++i)
        if (const auto& bar = function.bars[i]; bar.size_bytes != 0)
            bars.push_back(fmt::format("{}: {} {}{}{}", i, bytes_text(bar.size_bytes),
                                       bar.io          ? "io"
                                       : bar.is_64_bit ? "64 bits"
                                                       : "32 bits",
                                       bar.prefetchable ? ", prefetchable" : "",
                                       bar.address == 0 ? ", not assigned" : ""));
    return fmt::format("{}", fmt::join(bars, "; "));
}

std::string driver_text(const Function& function) {
    if (!function.driver) return "none";
    const Driver& driver = *function.driver;
    std::string text = driver.name;
    if (!driver.module.empty()) text += ", module " + driver.module;
    if (!driver.version.empty()) text += ", version " + driver.version;
    if (!driver.source_version.empty()) text += ", source version " + driver.source_version;
    return text;
}

std::string addresses(const std::vector<pci::Address>& list) {
    std::vector<std::string> texts;
    for (const auto& address : list)
        texts.push_back(pci::to_string(address));
    return fmt::format("{}", fmt::join(texts, " "));
}

std::string count_text(const std::optional<unsigned>& count) {
    return count ? fmt::format("{}", *count) : "not known";
}

void add_group(const Machine& machine, const Function& function, Lines& lines) {
    if (!function.iommu_group) {
        lines.emplace_back("iommu group", "none: nothing isolates it");
        return;
    }
    const auto group = std::ranges::find(machine.groups, *function.iommu_group, &IommuGroup::number);
    if (group == machine.groups.end()) return;
    lines.emplace_back("iommu group", fmt::format("{} ({}): {}", group->number,
                                                  group->type.empty() ? "type not known" : group->type,
                                                  addresses(group->members)));
}

void add_paths(const Machine& machine, const Function& function, Lines& lines) {
    if (function.acs) lines.emplace_back("acs", acs_text(*function.acs));
    for (const auto& gap : isolation_gaps(machine, function.address))
        lines.emplace_back("not isolated", gap.reason);
    if (function.bridge) return;
    for (const auto& adapter : machine.adapters) {
        if (adapter.address == function.address) continue;
        const auto route = peer_route(machine, function.address, adapter.address);
        lines.emplace_back("to adapter", fmt::format("{}: {}: {}", pci::to_string(adapter.address),
                                                     name(route.path), route.reason));
    }
}

void add_adapter(const Machine& machine, const Function& function, Lines& lines) {
    const auto adapter = std::ranges::find(machine.adapters, function.address, &NtbAdapter::address);
    if (adapter == machine.adapters.end()) return;
    std::vector<std::string> windows;
    for (const auto bytes : adapter->window_bar_bytes)
        windows.push_back(bytes_text(bytes));
    lines.emplace_back("windows", fmt::format("{}", fmt::join(windows, ", ")));
    if (!adapter->partition) return;
    lines.emplace_back("partition",
                       fmt::format("{} of {}", *adapter->partition, count_text(adapter->partitions)));
    lines.emplace_back("lut entries", count_text(adapter->lut_entries));
    lines.emplace_back("requesters", count_text(adapter->requester_slots));
}

} // namespace

std::string bytes_text(uint64_t bytes) {
    constexpr std::array units{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t unit = 0;
    for (; bytes >= 1024 && bytes % 1024 == 0 && unit + 1 < units.size(); ++unit)
        bytes /= 1024;
    return fmt::format("{} {}", bytes, units[unit]);
}

std::string tree_text(const Machine& machine) {
    Children children;
    for (const auto& function : machine.functions)
        children[function.upstream].push_back(&function);
    std::string text = fmt::format("{}\n", machine.host.name.empty() ? "machine" : machine.host.name);
    add_below(machine, children, std::nullopt, "", text);
    return text;
}

std::string site_toml(const Machine& machine) {
    const std::string host = host_name(machine.host.name);
    std::string text = fmt::format("[[host]]\nname = \"{}\"\nlends = true\nborrows = {}\n", host,
                                   machine.adapters.empty() ? "false" : "true");
    std::map<std::string, std::vector<const Function*>> classes;
    for (const auto& function : machine.functions)
        if (can_be_lent(function))
            classes[fmt::format("{}-{:04x}-{:04x}", kind_of(function), function.vendor_id,
                                function.device_id)]
                .push_back(&function);
    for (const auto& [name, functions] : classes) {
        text += "\n";
        for (const auto* function : functions)
            text += fmt::format("# {} {}{}\n", pci::to_string(function->address), title_of(*function),
                                function->parent ? " (a virtual function)" : "");
        text +=
            fmt::format("[class.{}]\nany = [{{ host = \"{}\", vendor_id = {:#06x}, device_id = {:#06x} }}]\n",
                        name, host, functions.front()->vendor_id, functions.front()->device_id);
    }
    return text;
}

Lines details(const Machine& machine, const Function& function) {
    Lines lines;
    const auto add = [&](const char* heading, std::string text) {
        if (!text.empty()) lines.emplace_back(heading, std::move(text));
    };
    add("address", pci::to_string(function.address));
    add("ids", fmt::format("{:04x}:{:04x}, subsystem {:04x}:{:04x}, revision {:02x}", function.vendor_id,
                           function.device_id, function.subsystem_vendor_id, function.subsystem_device_id,
                           function.revision));
    add("name", title_of(function));
    add("vendor", function.vendor_name);
    add("class", fmt::format("{:06x} {}", function.class_code,
                             function.class_name.empty() ? kind_of(function) : function.class_name));
    add("type", std::string(name(function.type)));
    add("serial", function.serial);
    add("firmware", function.firmware);
    add("driver", driver_text(function));
    add("override", function.driver_override);
    add("nodes", fmt::format("{}", fmt::join(function.device_nodes, " ")));
    add("power", function.power_state);
    if (function.upstream) add("below", pci::to_string(*function.upstream));
    if (function.slot) add("slot", fmt::format("{}", *function.slot));
    if (function.numa_node) add("numa node", fmt::format("{}", *function.numa_node));
    if (function.best_link)
        add("link", fmt::format("{}, at best {}{}", link_text(function.link),
                                link_text(possible_link(machine, function)),
                                is_degraded(machine, function) ? ": degraded" : ""));
    add("bars", bars_text(function));
    if (!function.bridge) {
        add("reset", function.reset_methods.empty()
                         ? "none that the kernel knows"
                         : fmt::format("{}", fmt::join(function.reset_methods, " ")));
        add("interrupts", fmt::format("MSI-X {}, MSI {}, INTx {}", count_text(function.msix_vectors),
                                      count_text(function.msi_vectors), function.intx ? "yes" : "no"));
    }
    if (function.dma_bits) add("dma", fmt::format("{} bits", *function.dma_bits));
    if (function.sriov)
        add("sr-iov",
            fmt::format("{} of {}{}{}", function.sriov->enabled, function.sriov->total,
                        function.sriov->functions.empty() ? "" : ": ", addresses(function.sriov->functions)));
    if (function.parent) add("parent", pci::to_string(*function.parent));
    add_group(machine, function, lines);
    add_paths(machine, function, lines);
    add_adapter(machine, function, lines);
    if (function.aer)
        add("errors", fmt::format("{} correctable, {} non-fatal, {} fatal", function.aer->correctable,
                                  function.aer->nonfatal, function.aer->fatal));
    for (const auto& note : function.notes)
        add("note", note);
    return lines;
}

Lines details(const Machine& machine) {
    const Host& host = machine.host;
    Lines lines;
    const auto add = [&](const char* heading, std::string text) {
        if (!text.empty()) lines.emplace_back(heading, std::move(text));
    };
    add("host", host.name);
    add("system", host.os);
    add("kernel", host.kernel_release + (host.architecture.empty() ? "" : " " + host.architecture));
    add("processor",
        fmt::format("{}{}{} processors, {} NUMA node{}", host.cpu_model, host.cpu_model.empty() ? "" : ", ",
                    host.processors, host.numa_nodes, host.numa_nodes == 1 ? "" : "s"));
    add("board", host.board);
    add("iommu", fmt::format("{}{}{}, interrupt remapping {}", name(host.iommu),
                             host.iommu_units.empty() ? "" : ": ", fmt::join(host.iommu_units, " "),
                             !host.interrupt_remapping   ? "not known"
                             : *host.interrupt_remapping ? "on"
                                                         : "off"));
    if (host.vfio) add("vfio", host.vfio->empty() ? "none" : fmt::format("{}", fmt::join(*host.vfio, " ")));
    add("options", host.command_line);
    add("lockdown", host.lockdown);
    return lines;
}

} // namespace lanepool::inventory
