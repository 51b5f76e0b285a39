// SPDX-License-Identifier: Apache-2.0
//
// The controller's configuration space: a type-0 header with power management, MSI, PCI Express and MSI-X
// (PCI Express Base Specification 5.0, chapter 7).
#pragma once

#include "base/result.h"
#include "pci/config_space.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace lanepool::nvme::model {

// Not assigned to anybody by the PCI-SIG, so no operating system has a quirk for it; "LP".
inline constexpr uint16_t vendor_id = 0x4c50;
inline constexpr uint16_t device_id = 0x0010;

// BAR0: registers, then pages of their own for what is mapped or intercepted differently.
inline constexpr uint64_t bar0_bytes = 0x4000;
inline constexpr uint64_t doorbell_page_offset = 0x1000;
inline constexpr uint64_t doorbell_page_bytes = 0x1000;
inline constexpr uint64_t msix_table_offset = 0x2000;
inline constexpr uint64_t msix_pba_offset = 0x3000;

inline constexpr uint32_t msi_vectors = 32;
inline constexpr uint32_t msix_vectors = 65; // one per I/O queue and one for the admin queue

class ConfigSpace {
  public:
    explicit ConfigSpace(bool msix, uint64_t serial_number);

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

    bool msix_;
    uint64_t serial_number_;
    std::array<std::byte, pci::extended_config_bytes> bytes_{};
    std::array<std::byte, pci::extended_config_bytes> writable_{};
    bool may_master_ = false;
    bool powered_ = true;
    bool intx_disabled_ = false;
};

} // namespace lanepool::nvme::model
