// SPDX-License-Identifier: Apache-2.0
#include "local_devices/pci_tree.h"

#include "pci/address.h"
#include "pci/config_space.h"

#include <algorithm>
#include <charconv>

namespace lanepool::local_devices {

namespace {

constexpr std::string_view functions_folder = "/sys/bus/pci/devices/";
constexpr std::string_view white_space = " \t\n";
constexpr uint32_t bridge_class = 0x06;
constexpr uint32_t other_bridge = 0x0680; // no way to others: an NT endpoint

std::string trimmed(std::string_view text) {
    const size_t first = text.find_first_not_of(white_space);
    if (first == std::string_view::npos) return {};
    return std::string(text.substr(first, text.find_last_not_of(white_space) - first + 1));
}

// Device Serial Number (PCI Express Base Specification 7.9.3); empty: none, or it may not be read.
std::string serial_in(std::string_view text) {
    const auto config = std::as_bytes(std::span(text));
    std::vector<pci::CapabilityEntry> entries; // as far as the chain is sound
    [[maybe_unused]] const auto sound = pci::walk_extended_capabilities(config, entries);
    for (const auto& entry : entries) {
        constexpr auto serial_number = static_cast<uint16_t>(pci::ExtendedCapability::serial_number);
        if (entry.id != serial_number || entry.offset + 12u > config.size()) continue;
        return fmt::format("{:08x}{:08x}", pci::get32(config, entry.offset + 8u),
                           pci::get32(config, entry.offset + 4u));
    }
    return {};
}

} // namespace

std::string attribute(const pci::Address& function, std::string_view name) {
    std::string path = std::string(functions_folder) + pci::to_string(function);
    if (!name.empty()) path.append("/").append(name);
    return path;
}

std::string last_name(std::string_view path) { return std::string(path.substr(path.rfind('/') + 1)); }

std::string text_of(System& system, const std::string& path) {
    const auto text = system.read(path);
    return text ? trimmed(*text) : std::string();
}

std::optional<std::string> target_of(System& system, const std::string& path) {
    const auto link = system.read_link(path);
    if (!link) return std::nullopt;
    return (std::filesystem::path(path).parent_path() / *link).lexically_normal().string();
}

Result<std::string> real_folder(System& system, const pci::Address& function) {
    const auto target = target_of(system, attribute(function));
    if (!target)
        return fail(Errc::not_found, "there is no PCI function {}; `lspci` lists those that there are",
                    pci::to_string(function));
    return *target;
}

bool present(System& system, const pci::Address& function) { return system.exists(attribute(function)); }

std::string driver_of(System& system, const pci::Address& function) {
    const auto link = system.read_link(attribute(function, "driver"));
    return link ? last_name(*link) : std::string();
}

std::string driver_override_of(System& system, const pci::Address& function) {
    const std::string text = text_of(system, attribute(function, "driver_override"));
    return text == "(null)" ? std::string() : text;
}

Identity identity_of(System& system, const pci::Address& function) {
    Identity identity;
    for (const char* name : {"vendor", "device", "subsystem_vendor", "subsystem_device"}) {
        if (!identity.ids.empty()) identity.ids += ':';
        identity.ids += text_of(system, attribute(function, name));
    }
    const auto config = system.read(attribute(function, "config"));
    if (config) identity.serial = serial_in(*config);
    return identity;
}

bool may_be_same(const Identity& one, const Identity& other) {
    return one.ids == other.ids && (one.serial == other.serial || one.serial.empty() || other.serial.empty());
}

std::optional<uint32_t> class_code_of(System& system, const pci::Address& function) {
    const std::string text = text_of(system, attribute(function, "class"));
    uint32_t value = 0;
    if (!text.starts_with("0x")) return std::nullopt;
    const auto [stop, error] = std::from_chars(text.data() + 2, text.data() + text.size(), value, 16);
    if (error != std::errc() || stop != text.data() + text.size()) return std::nullopt;
    return value;
}

bool is_bridge(System& system, const pci::Address& function) {
    const auto class_code = class_code_of(system, function);
    return class_code && *class_code >> 16 == bridge_class && *class_code >> 8 != other_bridge;
}

Result<std::vector<pci::Address>> iommu_group_of(System& system, const pci::Address& function) {
    if (!present(system, function)) TRY(real_folder(system, function));
    const auto entries = system.list(attribute(function, "iommu_group/devices"));
    if (!entries)
        return fail(
            Errc::failed_precondition,
            "{} has no IOMMU group, so nothing would keep it from other memory: switch the IOMMU (VT-d, "
            "AMD-Vi, SMMU) on in the firmware and, for Intel, boot Linux with intel_iommu=on",
            pci::to_string(function));
    std::vector<pci::Address> members;
    for (const auto& entry : *entries)
        members.push_back(TRY(pci::parse_address(entry.name)));
    std::ranges::sort(members);
    if (!std::ranges::binary_search(members, function))
        return fail(Errc::io, "the kernel does not list {} in its own IOMMU group", pci::to_string(function));
    return members;
}

std::optional<pci::Address> parent_of(System& system, const pci::Address& function) {
    const auto link = system.read_link(attribute(function, "physfn"));
    if (!link) return std::nullopt;
    const auto parent = pci::parse_address(last_name(*link));
    return parent ? std::optional(*parent) : std::nullopt;
}

std::vector<pci::Address> virtual_functions_of(System& system, const pci::Address& parent) {
    constexpr unsigned most_functions = 65535; // NumVFs is a register of 16 bits
    std::vector<pci::Address> functions;
    for (unsigned i = 0; i < most_functions; ++i) {
        const auto link = system.read_link(attribute(parent, fmt::format("virtfn{}", i)));
        if (!link) break;
        if (const auto address = pci::parse_address(last_name(*link))) functions.push_back(*address);
    }
    return functions;
}

} // namespace lanepool::local_devices
