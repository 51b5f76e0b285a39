// SPDX-License-Identifier: Apache-2.0
#include "inventory/json.h"

#include "inventory/links.h"
#include "inventory/names.h"
#include "inventory/paths.h"
#include "pci/address.h"

#include <fmt/format.h>

namespace lanepool::inventory {

namespace {

std::string hex(uint64_t value, int digits) { return fmt::format("{:0{}x}", value, digits); }

void put(Json& json, const char* key, const std::string& text) {
    if (!text.empty()) json[key] = text;
}

template <class T>
void put(Json& json, const char* key, const std::optional<T>& value) {
    if (value) json[key] = *value;
}

Json addresses(const std::vector<pci::Address>& list) {
    Json json = Json::array();
    for (const auto& address : list)
        json.push_back(pci::to_string(address));
    return json;
}

Json to_json(const Link& link) { return {{"speed_gt_per_s", link.speed_gt_per_s}, {"width", link.width}}; }

Json to_json(const Driver& driver) {
    Json json{{"name", driver.name}};
    put(json, "module", driver.module);
    put(json, "version", driver.version);
    put(json, "source_version", driver.source_version);
    return json;
}

Json bars(const Function& function) {
    Json json = Json::array();
    for (size_t i = 0; i < function.bars.size(); ++i) {
        const Bar& bar = function.bars[i];
        if (bar.size_bytes == 0) continue;
        json.push_back({{"bar", i},
                        {"address", "0x" + hex(bar.address, 1)},
                        {"size_bytes", bar.size_bytes},
                        {"kind", bar.io ? "io" : "memory"},
                        {"is_64_bit", bar.is_64_bit},
                        {"prefetchable", bar.prefetchable}});
    }
    return json;
}

void put_identity(Json& json, const Function& function) {
    json["address"] = pci::to_string(function.address);
    json["vendor_id"] = hex(function.vendor_id, 4);
    json["device_id"] = hex(function.device_id, 4);
    json["subsystem_vendor_id"] = hex(function.subsystem_vendor_id, 4);
    json["subsystem_device_id"] = hex(function.subsystem_device_id, 4);
    json["class_code"] = hex(function.class_code, 6);
    json["revision"] = hex(function.revision, 2);
    json["kind"] = kind_of(function);
    json["type"] = name(function.type);
    put(json, "vendor_name", function.vendor_name);
    put(json, "device_name", function.device_name);
    put(json, "class_name", function.class_name);
    put(json, "model", function.model);
    put(json, "serial", function.serial);
    put(json, "firmware", function.firmware);
}

void put_place(Json& json, const Machine& machine, const Function& function) {
    if (function.upstream) json["upstream"] = pci::to_string(*function.upstream);
    if (function.buses)
        json["buses"] = {{"secondary", function.buses->secondary},
                         {"subordinate", function.buses->subordinate}};
    put(json, "slot", function.slot);
    put(json, "numa_node", function.numa_node);
    put(json, "iommu_group", function.iommu_group);
    if (function.link) json["link"] = to_json(*function.link);
    if (function.best_link) json["best_link"] = to_json(*function.best_link);
    if (const auto possible = possible_link(machine, function)) {
        json["possible_link"] = to_json(*possible);
        json["link_degraded"] = is_degraded(machine, function);
    }
    if (function.acs)
        json["acs"] = {{"capabilities", function.acs->capabilities},
                       {"control", function.acs->control},
                       {"text", acs_text(*function.acs)}};
    Json gaps = Json::array();
    for (const auto& gap : isolation_gaps(machine, function.address))
        gaps.push_back(
            {{"address", pci::to_string(gap.address)}, {"known", gap.known}, {"reason", gap.reason}});
    json["isolation_gaps"] = std::move(gaps);
    if (function.bridge) return;
    Json paths = Json::object();
    for (const auto& adapter : machine.adapters)
        if (adapter.address != function.address) {
            const auto route = peer_route(machine, function.address, adapter.address);
            paths[pci::to_string(adapter.address)] = {{"path", name(route.path)}, {"reason", route.reason}};
        }
    json["adapter_paths"] = std::move(paths);
}

void put_abilities(Json& json, const Function& function) {
    json["bars"] = bars(function);
    json["reset_methods"] = function.reset_methods;
    put(json, "has_flr", function.has_flr);
    json["intx"] = function.intx;
    put(json, "msi_vectors", function.msi_vectors);
    put(json, "msix_vectors", function.msix_vectors);
    put(json, "dma_bits", function.dma_bits);
    if (function.sriov)
        json["sriov"] = {{"total", function.sriov->total},
                         {"enabled", function.sriov->enabled},
                         {"functions", addresses(function.sriov->functions)}};
    if (function.parent) json["parent"] = pci::to_string(*function.parent);
}

} // namespace

std::string_view name(FunctionType type) {
    switch (type) {
    case FunctionType::endpoint:
        return "endpoint";
    case FunctionType::legacy_endpoint:
        return "legacy_endpoint";
    case FunctionType::root_port:
        return "root_port";
    case FunctionType::upstream_port:
        return "upstream_port";
    case FunctionType::downstream_port:
        return "downstream_port";
    case FunctionType::pcie_to_pci_bridge:
        return "pcie_to_pci_bridge";
    case FunctionType::root_complex_endpoint:
        return "root_complex_endpoint";
    case FunctionType::conventional:
        return "conventional";
    case FunctionType::other:
        break;
    }
    return "other";
}

std::string_view name(IommuMode mode) {
    switch (mode) {
    case IommuMode::none:
        return "none";
    case IommuMode::off:
        return "off";
    case IommuMode::passthrough:
        return "passthrough";
    case IommuMode::translated_lazy:
        return "translated_lazy";
    case IommuMode::translated_strict:
        return "translated_strict";
    case IommuMode::unknown:
        break;
    }
    return "unknown";
}

Json to_json(const Host& host) {
    Json json;
    put(json, "name", host.name);
    put(json, "os", host.os);
    put(json, "kernel_release", host.kernel_release);
    put(json, "kernel_version", host.kernel_version);
    put(json, "architecture", host.architecture);
    put(json, "cpu_vendor", host.cpu_vendor);
    put(json, "cpu_model", host.cpu_model);
    json["cpu_family"] = host.cpu_family;
    put(json, "board", host.board);
    json["processors"] = host.processors;
    json["numa_nodes"] = host.numa_nodes;
    json["node_packages"] = Json::object();
    for (const auto& [node, package] : host.node_packages)
        json["node_packages"][fmt::format("{}", node)] = package;
    json["iommu"] = name(host.iommu);
    json["iommu_units"] = host.iommu_units;
    put(json, "interrupt_remapping", host.interrupt_remapping);
    put(json, "command_line", host.command_line);
    put(json, "vfio", host.vfio);
    put(json, "lockdown", host.lockdown);
    return json;
}

Json to_json(const Machine& machine, const Function& function) {
    Json json;
    put_identity(json, function);
    put_place(json, machine, function);
    put_abilities(json, function);
    if (function.driver) json["driver"] = to_json(*function.driver);
    put(json, "driver_override", function.driver_override);
    json["boot_display"] = function.boot_display;
    put(json, "power_state", function.power_state);
    if (function.aer)
        json["aer"] = {{"correctable", function.aer->correctable},
                       {"nonfatal", function.aer->nonfatal},
                       {"fatal", function.aer->fatal}};
    json["device_nodes"] = function.device_nodes;
    json["config_complete"] = function.config_complete;
    json["answers"] = function.answers;
    json["config_broken"] = function.config_broken;
    json["notes"] = function.notes;
    return json;
}

Json to_json(const IommuGroup& group) {
    Json json{{"number", group.number}};
    put(json, "type", group.type);
    json["members"] = addresses(group.members);
    json["reserved"] = Json::array();
    for (const auto& each : group.reserved)
        json["reserved"].push_back(
            {{"first", "0x" + hex(each.first, 1)}, {"last", "0x" + hex(each.last, 1)}, {"type", each.type}});
    return json;
}

Json to_json(const NtbAdapter& adapter) {
    Json json{{"address", pci::to_string(adapter.address)}};
    put(json, "partition", adapter.partition);
    put(json, "partitions", adapter.partitions);
    put(json, "lut_entries", adapter.lut_entries);
    put(json, "requester_slots", adapter.requester_slots);
    json["window_bar_bytes"] = adapter.window_bar_bytes;
    return json;
}

Json to_json(const Machine& machine) {
    Json json{{"host", to_json(machine.host)}};
    json["functions"] = Json::array();
    for (const auto& function : machine.functions)
        json["functions"].push_back(to_json(machine, function));
    json["groups"] = Json::array();
    for (const auto& group : machine.groups)
        json["groups"].push_back(to_json(group));
    json["adapters"] = Json::array();
    for (const auto& adapter : machine.adapters)
        json["adapters"].push_back(to_json(adapter));
    json["notes"] = machine.notes;
    return json;
}

} // namespace lanepool::inventory
