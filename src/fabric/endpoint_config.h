// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "fabric/options.h"
#include "pci/config_space.h"

#include <array>
#include <cstdint>
#include <span>

namespace lanepool::fabric {

// The configuration space of one NT endpoint: type-0 header, PM, MSI, PCI Express, MSI-X.
class EndpointConfig {
  public:
    EndpointConfig(unsigned partition, const WindowBars& window_bars);

    // Initial values, as after a function-level reset.
    void reset();
    // The access must lie in the 4 KiB. Bits that are not writable keep their value.
    void read(uint64_t offset_bytes, std::span<std::byte> data) const;
    // Whether the write asked for a function-level reset (Device Control, bit 15).
    bool write(uint64_t offset_bytes, std::span<const std::byte> data);
    // Whether the endpoint may send requests into its host.
    bool bus_master() const;

  private:
    void add_header(const WindowBars& window_bars);
    void add_capabilities(unsigned partition);
    void put(size_t offset, size_t size_bytes, uint32_t value, uint32_t writable);

    std::array<std::byte, pci::extended_config_bytes> initial_{};
    std::array<std::byte, pci::extended_config_bytes> writable_{}; // by bit
    std::array<std::byte, pci::extended_config_bytes> bytes_{};
};

} // namespace lanepool::fabric
