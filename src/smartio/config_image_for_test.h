// SPDX-License-Identifier: Apache-2.0
//
// A config space as a drive of today shows it, for tests and as a seed of the fuzzers.
#pragma once

#include "pci/config_space.h"
#include "smartio/config_shadow.h"

#include <vector>

namespace lanepool::smartio::test {

namespace at { // where the capabilities of sample_config() are
inline constexpr size_t power_management = 0x40;
inline constexpr size_t msi = 0x50;
inline constexpr size_t pci_express = 0x70;
inline constexpr size_t msix = 0xb0;
inline constexpr size_t vendor = 0xc0;
inline constexpr size_t advanced_error = 0x100;
inline constexpr size_t serial_number = 0x148;
inline constexpr size_t sriov = 0x180;
} // namespace at

// A 64-bit prefetchable BAR 0 of 16 KiB, an I/O BAR 2, a 32-bit BAR 3 of 4 KiB, and the chains
// PM - MSI-X - MSI - PCIe - vendor and AER - SR-IOV - serial number.
inline std::vector<std::byte> sample_config() {
    std::vector<std::byte> config(pci::extended_config_bytes);
    const auto set8 = [&](size_t offset, unsigned value) { config[offset] = static_cast<std::byte>(value); };
    using namespace pci;
    set16(config, config::vendor_id, 0x1b36);
    set16(config, config::device_id, 0x0010);
    set16(config, config::command, 0x0506);
    set16(config, config::status, status::capabilities_list);
    set32(config, config::revision, 0x01080202);
    set8(config::header_type, 0x80);
    set32(config, config::bar0, 0xfe00000c);
    set32(config, config::bar0 + 8, 0x0000d001);
    set32(config, config::bar0 + 12, 0xfd000000);
    set32(config, config::rom_base, 0xfc000001);
    set16(config, config::subsystem_vendor_id, 0x1af4);
    set8(config::interrupt_pin, 1);
    set8(config::interrupt_line, 11);

    const auto capability = [&](size_t offset, Capability id, size_t next) {
        set8(offset, static_cast<unsigned>(id));
        set8(offset + 1, static_cast<unsigned>(next));
    };
    set8(config::capabilities, at::power_management);
    capability(at::power_management, Capability::power_management, at::msix);
    set16(config, at::power_management + 2, 0xf803); // PME from every state
    capability(at::msix, Capability::msix, at::msi);
    set16(config, at::msix + 2, 0x8020);
    capability(at::msi, Capability::msi, at::pci_express);
    set16(config, at::msi + 2, 0x018b); // enabled, 32 vectors, 64 bits, per-vector masking
    set32(config, at::msi + 4, 0xfee01000);
    capability(at::pci_express, Capability::pci_express, at::vendor);
    set16(config, at::pci_express + 2, 0x0002);
    set32(config, at::pci_express + 4, 1u << 28 | 0x8002); // FLR
    set16(config, at::pci_express + 8, 0x2810);
    set32(config, at::pci_express + 0x24, 1u << 11);
    capability(at::vendor, Capability::vendor, 0);
    set8(at::vendor + 2, 16);

    const auto extended = [&](size_t offset, ExtendedCapability id, size_t next) {
        set32(config, offset, static_cast<uint32_t>(next) << 20 | 1u << 16 | static_cast<uint32_t>(id));
    };
    extended(at::advanced_error, ExtendedCapability::advanced_error, at::sriov);
    set32(config, at::advanced_error + 4, 0x1234);
    extended(at::sriov, ExtendedCapability::sriov, at::serial_number);
    extended(at::serial_number, ExtendedCapability::serial_number, 0);
    set32(config, at::serial_number + 4, 0xcafe0001);
    return config;
}

inline ShadowSource sample_source(std::span<const std::byte> config) {
    return {config, {16384, 0, 256, 4096, 0, 0}, 1, 32};
}

} // namespace lanepool::smartio::test
