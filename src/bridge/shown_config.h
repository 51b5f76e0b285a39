// SPDX-License-Identifier: Apache-2.0
//
// The configuration space of a borrowed device as this host's own kernel is to see it. Pure.
//
// What concerns the borrower alone stays: power management, MSI or MSI-X, PCI Express (as an endpoint),
// serial number, vendor-specific capabilities. SR-IOV, ATS, PRI, PASID, resizable BARs and the rest are gone,
// as for guests. So are interrupt lines, PME and power states between D0 and D3hot. The module takes whatever
// comes out of here, as long as the BARs are those that it says.
#pragma once

#include "bridge/function.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace lanepool::bridge {

struct DeviceConfig {
    std::span<const std::byte> config;              // as the device shows it: 256 or 4096 bytes
    std::array<uint64_t, pci::bar_count> bar_bytes; // as it is lent; 0: none
    // That the lender can signal. Where the device has MSI-X and the lender signals it, MSI is not looked at:
    // so DirectDevice::interrupts() may be given as both.
    uint32_t msi_vectors = 0;
    uint32_t msix_vectors = 0;
    // The page of the MSI-X table that drivers reach is nobody's: Linux may write masks and messages there.
    // Otherwise it is the device's own, and MSI takes the place of MSI-X, with up to 32 vectors.
    bool msix_table_apart = false;
};

// Registers whose writes ask something of the real device.
struct ServedRegisters {
    uint32_t command = 4;
    std::optional<uint32_t> power_state; // PMCSR (PCI Power Management Specification 3.2.4)
};

// A BAR that drivers see: one of memory. Those of I/O ports are not shown.
struct ShownBar {
    uint64_t size_bytes = 0; // 0: none
    bool is_64bit = false;
    bool prefetchable = false;
};

struct Shown {
    ShownConfig config;
    ServedRegisters registers;
    std::array<ShownBar, pci::bar_count> bars;
    // The interrupt index of the device of which vector i is vector i of what is shown: MSI-X, or MSI.
    bool by_msix = false;
};

// Errors: protocol for an image that is no endpoint's; not_supported for a bridge, and for a device that has
// interrupts, but neither MSI nor MSI-X that the lender signals.
Result<Shown> shown_config(const DeviceConfig& device);

// Description::bars for SHOWN: MEMORY is what is behind each BAR; that of one which is not shown is left out.
// Errors: not_supported where a BAR has no memory in one piece, or not as much as it should.
Result<std::array<Bar, pci::bar_count>> described_bars(const Shown& shown,
                                                       std::span<const MemoryRef, pci::bar_count> memory);

} // namespace lanepool::bridge
