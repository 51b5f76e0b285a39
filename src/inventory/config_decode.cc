// SPDX-License-Identifier: Apache-2.0
#include "inventory/config_decode.h"

#include "pci/config_space.h"

#include <algorithm>
#include <fmt/format.h>

namespace lanepool::inventory {

namespace {

using Bytes = std::span<const std::byte>;
using Entries = std::vector<pci::CapabilityEntry>;

constexpr size_t header_bytes = 64;
constexpr std::array speeds_gt_per_s{0.0, 2.5, 5.0, 8.0, 16.0, 32.0, 64.0};

uint8_t get8(Bytes config, size_t offset) { return std::to_integer<uint8_t>(config[offset]); }

// The first capability of this kind that lies inside with all of its BYTES.
template <class Id>
std::optional<size_t> find(const Entries& entries, Id id, size_t bytes, size_t size) {
    for (const auto& entry : entries)
        if (entry.id == static_cast<uint16_t>(id) && entry.offset + bytes <= size) return entry.offset;
    return std::nullopt;
}

FunctionType type_of(unsigned port_type) {
    switch (port_type) {
    case 0x0:
        return FunctionType::endpoint;
    case 0x1:
        return FunctionType::legacy_endpoint;
    case 0x4:
        return FunctionType::root_port;
    case 0x5:
        return FunctionType::upstream_port;
    case 0x6:
        return FunctionType::downstream_port;
    case 0x7:
        return FunctionType::pcie_to_pci_bridge;
    case 0x9:
        return FunctionType::root_complex_endpoint;
    default:
        return FunctionType::other;
    }
}

// Link Capabilities and Link Status agree in where speed and width stand (7.5.3.6, 7.5.3.8).
Link link_of(uint32_t reg) {
    const unsigned speed = reg & 0xf;
    return {speed < speeds_gt_per_s.size() ? speeds_gt_per_s[speed] : 0, reg >> 4 & 0x3f};
}

void decode_header(Bytes config, Function& function) {
    if (function.vendor_id == 0) {
        function.vendor_id = pci::get16(config, pci::config::vendor_id);
        function.device_id = pci::get16(config, pci::config::device_id);
        function.class_code = pci::get32(config, pci::config::revision) >> 8;
        function.revision = get8(config, pci::config::revision);
    }
    const uint8_t header_type = get8(config, pci::config::header_type);
    function.multi_function = (header_type & 0x80) != 0;
    function.bridge = (header_type & 0x7f) == 1;
    function.intx = get8(config, pci::config::interrupt_pin) != 0;
    if (function.bridge) function.buses = BridgeBuses{get8(config, 0x19), get8(config, 0x1a)};
}

// The PCI Express capability (7.5.3); whether the function has one.
bool decode_pci_express(Bytes config, const Entries& entries, Function& function) {
    const auto at = find(entries, pci::Capability::pci_express, 0x14, config.size());
    if (!at) return false;
    const uint16_t flags = pci::get16(config, *at + 2);
    function.type = type_of(flags >> 4 & 0xf);
    function.has_flr = (pci::get32(config, *at + 4) >> 28 & 1) != 0;
    const bool in_root_complex = (flags >> 4 & 0xf) >= 9;
    if (!in_root_complex) {
        const Link best = link_of(pci::get32(config, *at + 0x0c));
        if (best.width != 0) {
            function.best_link = best;
            function.link = link_of(pci::get16(config, *at + 0x12));
        }
    }
    const bool has_slot = (flags >> 8 & 1) != 0;
    if (has_slot && *at + 0x18 <= config.size()) function.slot = pci::get32(config, *at + 0x14) >> 19;
    return true;
}

void decode_interrupts(Bytes config, const Entries& entries, Function& function) {
    function.msi_vectors = function.msix_vectors = 0;
    if (const auto at = find(entries, pci::Capability::msi, 4, config.size()))
        function.msi_vectors = 1u << std::min(pci::get16(config, *at + 2) >> 1 & 7, 5);
    if (const auto at = find(entries, pci::Capability::msix, 4, config.size()))
        function.msix_vectors = (pci::get16(config, *at + 2) & 0x7ffu) + 1;
}

void decode_extended(Bytes config, const Entries& entries, Function& function) {
    if (const auto at = find(entries, pci::ExtendedCapability::serial_number, 12, config.size())) {
        const uint64_t number = uint64_t{pci::get32(config, *at + 8)} << 32 | pci::get32(config, *at + 4);
        if (number != 0 && number != ~uint64_t{0}) {
            for (int shift = 56; shift >= 0; shift -= 8)
                function.serial += fmt::format("{:02x}{}", number >> shift & 0xff, shift == 0 ? "" : "-");
        }
    }
    if (const auto at = find(entries, pci::ExtendedCapability::acs, 8, config.size()))
        function.acs = Acs{pci::get16(config, *at + 4), pci::get16(config, *at + 6)};
    if (const auto at = find(entries, pci::ExtendedCapability::sriov, 0x40, config.size()))
        function.sriov = Sriov{pci::get16(config, *at + 0x0e), pci::get16(config, *at + 0x10), {}};
}

void note(Function& function, const Result<>& walked) {
    if (walked) return;
    function.config_broken = true;
    function.notes.push_back("configuration space: " + walked.error().message());
}

} // namespace

void decode_config(Bytes config, Function& function) {
    if (config.size() < header_bytes) {
        function.notes.push_back(
            config.empty() ? "its configuration space could not be read"
                           : fmt::format("its configuration space ends after {} bytes", config.size()));
        return;
    }
    if (pci::get16(config, pci::config::vendor_id) == 0xffff && pci::get32(config, 0x08) == 0xffffffff) {
        // A virtual function has all-ones for its ids, but not for the rest (SR-IOV 1.1, 3.4.1).
        function.answers = false;
        function.notes.push_back("its configuration space reads all-ones: it is gone, or without power");
        return;
    }
    decode_header(config, function);
    if (config.size() < pci::conventional_config_bytes) {
        function.notes.push_back(
            fmt::format("only {} bytes of its configuration space could be read", config.size()));
        return;
    }
    Entries entries, extended;
    note(function, pci::walk_capabilities(config.first(pci::conventional_config_bytes), entries));
    const bool express = decode_pci_express(config, entries, function);
    if (!express) {
        function.type = FunctionType::conventional;
        function.has_flr = false;
    }
    if (const auto at = find(entries, pci::Capability::advanced_features, 6, config.size()))
        function.has_flr = *function.has_flr || (get8(config, *at + 3) >> 1 & 1) != 0;
    decode_interrupts(config, entries, function);
    function.config_complete = !express || config.size() >= pci::extended_config_bytes;
    if (!function.config_complete)
        function.notes.push_back("its extended configuration space could not be read");
    note(function, pci::walk_extended_capabilities(config, extended));
    decode_extended(config, extended, function);
}

} // namespace lanepool::inventory
