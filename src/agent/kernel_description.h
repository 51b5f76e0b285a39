// SPDX-License-Identifier: Apache-2.0
//
// A device that is attached, as this host's own kernel is to find it. Pure.
#pragma once

#include "bridge/shown_config.h"
#include "smartio/direct_device.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace lanepool::agent {

// What of an attached device (smartio::DirectDevice) its description is made of.
struct ReachedDevice {
    std::span<const std::byte> config;
    const std::array<smartio::DirectBar, pci::bar_count>& bars;
    uint32_t interrupts = 0;
    bool msix_table_apart = false;
};

struct Described {
    bridge::Description function; // all but DMA and what is held
    bridge::ServedRegisters registers;
    uint32_t class_code = 0;
};

// Errors: those of bridge::shown_config and bridge::described_bars.
Result<Described> describe(const ReachedDevice& device);

// The shadow of configuration space after a reset that left the device with CONFIG: what drivers can write
// is as it shows it, and all else as it was in BEFORE. Errors: as describe().
Result<std::vector<std::byte>> after_reset(const bridge::ShownConfig& before, const ReachedDevice& device);

} // namespace lanepool::agent
