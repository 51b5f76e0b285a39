// SPDX-License-Identifier: Apache-2.0
//
// The vocabulary of a PCI function as VFIO shows it (linux/vfio.h): regions and interrupts by index.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace lanepool::pci {

// VFIO_PCI_*_REGION_INDEX
enum class Region : uint32_t { bar0 = 0, bar1, bar2, bar3, bar4, bar5, rom = 6, config = 7, vga = 8 };
inline constexpr uint32_t region_count = 9;
inline constexpr uint32_t bar_count = 6;

// VFIO_PCI_*_IRQ_INDEX
enum class Irq : uint32_t { intx = 0, msi = 1, msix = 2, error = 3, request = 4 };
inline constexpr uint32_t irq_count = 5;

// A part of a region, for example one that may be mapped.
struct Area {
    uint64_t offset_bytes = 0;
    uint64_t size_bytes = 0;
    bool operator==(const Area&) const = default;
};

struct RegionInfo {
    uint64_t size_bytes = 0; // 0: there is no such region
    bool readable = false;
    bool writable = false;
    std::vector<Area> mappable; // ascending, without overlap; empty: every access is a call
};

struct IrqInfo {
    uint32_t count = 0; // vectors; 0: the function cannot signal this way
    bool maskable = false;
    bool automasked = false; // masks itself when it fires (INTx)
};

// Bus, device and function number in a domain. Where a function is, never who it is: numbers change. Firmware
// numbers domains in 16 bits; those of host bridges that only Linux knows lie above.
struct Address {
    uint32_t domain = 0;
    uint8_t bus = 0;
    uint8_t device = 0;   // 0..31
    uint8_t function = 0; // 0..7
    auto operator<=>(const Address&) const = default;
};

// What a transaction carries to say who issued it: bus in the high byte, device and function in the low
// (PCI Express Base Specification 2.2.6.2).
struct RequesterId {
    uint16_t value = 0;
    auto operator<=>(const RequesterId&) const = default;
};

} // namespace lanepool::pci
