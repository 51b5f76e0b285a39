// SPDX-License-Identifier: Apache-2.0
//
// The configuration space of a virtual device: a type-0 header with one BAR, power management, MSI, PCI
// Express and, where asked for, MSI-X (PCI Express Base Specification 5.0, chapter 7).
#pragma once

#include "base/result.h"
#include "pci/config_space.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace lanepool::device_model {

// Not assigned to anybody by the PCI-SIG, so no operating system has a quirk for it; "LP".
inline constexpr uint16_t vendor_id = 0x4c50;

struct ConfigOptions {
    uint16_t device_id = 0;
    uint32_t class_code = 0;       // base class, subclass, programming interface
    uint64_t bar0_bytes = 0;       // a power of two, 4096 or more
    unsigned msi_vectors_log2 = 0; // 2^0 to 2^5 of them
    bool intx = true;
    struct Msix {
        uint16_t vectors;
        uint64_t table_offset; // both in BAR0
        uint64_t pba_offset;
    };
    std::optional<Msix> msix = std::nullopt;
    uint64_t serial_number = 0;
};

class ConfigSpace {
  public:
    explicit ConfigSpace(const ConfigOptions& options);

    // As after a conventional or function-level reset.
    void reset();

    // The range must lie in the 4096 bytes.
    std::vector<std::byte> read(uint64_t offset_bytes, size_t size_bytes) const;
    // Returns whether Initiate Function Level Reset was written; performing it is the caller's.
    bool write(uint64_t offset_bytes, std::span<const std::byte> data);

    // The function may issue requests: Bus Master Enable is set and it is in D0.
    bool may_master() const { return may_master_; }
    bool powered() const { return powered_; }
    bool intx_disabled() const { return intx_disabled_; }
    void set_interrupt_status(bool asserted);

  private:
    void put16(uint16_t offset, uint16_t value, uint16_t writable = 0);
    void put32(uint16_t offset, uint32_t value, uint32_t writable = 0);
    void derive();

    ConfigOptions options_;
    std::array<std::byte, pci::extended_config_bytes> bytes_{};
    std::array<std::byte, pci::extended_config_bytes> writable_{};
    bool may_master_ = false;
    bool powered_ = true;
    bool intx_disabled_ = false;
};

} // namespace lanepool::device_model
