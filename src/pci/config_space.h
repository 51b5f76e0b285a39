// SPDX-License-Identifier: Apache-2.0
//
// Configuration space: registers of the type-0 header and the two capability chains
// (PCI Local Bus Specification 3.0, chapter 6; PCI Express Base Specification, chapter 7).
#pragma once

#include "base/result.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace lanepool::pci {

inline constexpr size_t conventional_config_bytes = 256;
inline constexpr size_t extended_config_bytes = 4096;

namespace config {
inline constexpr uint16_t vendor_id = 0x00;
inline constexpr uint16_t device_id = 0x02;
inline constexpr uint16_t command = 0x04;
inline constexpr uint16_t status = 0x06;
inline constexpr uint16_t revision = 0x08;
inline constexpr uint16_t class_code = 0x09; // three bytes
inline constexpr uint16_t header_type = 0x0e;
inline constexpr uint16_t bar0 = 0x10;
inline constexpr uint16_t subsystem_vendor_id = 0x2c;
inline constexpr uint16_t subsystem_id = 0x2e;
inline constexpr uint16_t rom_base = 0x30;
inline constexpr uint16_t capabilities = 0x34;
inline constexpr uint16_t interrupt_line = 0x3c;
inline constexpr uint16_t interrupt_pin = 0x3d;
} // namespace config

namespace command {
inline constexpr uint16_t io_space = 1 << 0;
inline constexpr uint16_t memory_space = 1 << 1;
inline constexpr uint16_t bus_master = 1 << 2;
inline constexpr uint16_t interrupt_disable = 1 << 10;
} // namespace command

namespace status {
inline constexpr uint16_t interrupt = 1 << 3;
inline constexpr uint16_t capabilities_list = 1 << 4;
} // namespace status

// Capability ids (PCI Code and ID Assignment Specification, chapters 2 and 3).
enum class Capability : uint8_t {
    power_management = 0x01,
    vpd = 0x03,
    msi = 0x05,
    vendor = 0x09,
    pci_express = 0x10,
    msix = 0x11,
    advanced_features = 0x13
};
enum class ExtendedCapability : uint16_t {
    advanced_error = 0x01,
    serial_number = 0x03,
    acs = 0x0d,
    ari = 0x0e,
    ats = 0x0f,
    sriov = 0x10,
    page_request = 0x13,
    resizable_bar = 0x15,
    ltr = 0x18,
    pasid = 0x1b,
};

struct CapabilityEntry {
    uint16_t id;
    uint16_t offset;   // of the capability's first byte
    uint16_t previous; // offset of the pointer or header that leads to it
    uint16_t next;     // offset of the next one, 0 for the last
};

// The chains of a config space that somebody else wrote: at most as many entries as fit, never a loop, never
// outside. Errors: protocol, naming the offset at which the chain goes wrong.
Result<std::vector<CapabilityEntry>> capabilities(std::span<const std::byte> config);
Result<std::vector<CapabilityEntry>> extended_capabilities(std::span<const std::byte> config);

// The same for a reader that makes do with what there is: what stands before the break of a broken chain is
// in ENTRIES, which begins empty, also when this fails. A chain that loops has entries twice.
Result<> walk_capabilities(std::span<const std::byte> config, std::vector<CapabilityEntry>& entries);
Result<> walk_extended_capabilities(std::span<const std::byte> config, std::vector<CapabilityEntry>& entries);

// Little-endian access to a config space image. OFFSET and width must lie inside: the caller has checked.
uint16_t get16(std::span<const std::byte> config, size_t offset);
uint32_t get32(std::span<const std::byte> config, size_t offset);
void set16(std::span<std::byte> config, size_t offset, uint16_t value);
void set32(std::span<std::byte> config, size_t offset, uint32_t value);

} // namespace lanepool::pci
