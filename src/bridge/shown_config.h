// SPDX-License-Identifier: Apache-2.0
//
// The configuration space of a borrowed device as this host's own kernel is to see it. Pure.
//
// What concerns the borrower alone stays: power management, MSI or MSI-X, PCI Express (as an endpoint),
// serial number, vendor-specific capabilities. SR-IOV, ATS, PRI, PASID, resizable BARs and the rest are gone,
// as for guests.
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
    uint32_t msi_vectors = 0;                       // that the lender can signal
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

struct Shown {
    ShownConfig config;
    ServedRegisters registers;
    // The interrupt index of the device of which vector i is vector i of what is shown.
    bool by_msix = false;
};

// Errors: protocol for an image that is no endpoint's; not_supported for a device that has neither MSI nor
// MSI-X, but has a line.
Result<Shown> shown_config(const DeviceConfig& device);

} // namespace lanepool::bridge
