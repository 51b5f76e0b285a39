// SPDX-License-Identifier: Apache-2.0
//
// The config space that a borrower's guest sees of a lent device, and what its writes do. Pure: it knows no
// device, only the image that the lender sent.
//
// BARs are emulated (the guest places the device where it likes). Of the capabilities only those remain that
// concern the borrower alone: power management, MSI, PCI Express, serial number, vendor-specific ones; and
// MSI-X where the device has no MSI. Everything else is gone from the image, not only from the chain: SR-IOV,
// ATS, PRI, PASID, resizable BARs, ACS, AER, the expansion ROM.
//
// QEMU aborts when a function that has MSI-X is removed, so it must not find it. It looks for capabilities
// once, in the whole of config space that it reads at a time; what its guest reads, 4 bytes at most, it asks
// for each time. So what is read at a time in more than 4 bytes has another capability in that place, of a
// kind that there is not.
#pragma once

#include "base/result.h"
#include "pci/types.h"
#include "smartio/msix_capability.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace lanepool::smartio {

struct ShadowSource {
    std::span<const std::byte> config;              // of the device: 256 or 4096 bytes
    std::array<uint64_t, pci::bar_count> bar_bytes; // 0: none; else a power of two
    uint32_t intx_vectors = 0;                      // 0: the interrupt pin is hidden
    uint32_t msi_vectors = 0;                       // 0: the MSI capability is hidden
    uint32_t msix_vectors = 0;                      // 0, or if there is MSI: that of MSI-X is hidden
};

// What a write asks of the real device; nothing for most.
struct ShadowEffects {
    std::optional<uint16_t> command; // write this to the device's command register
    bool reset = false;              // function-level reset
    bool msix = false;               // MSI-X is on, off or masked otherwise than before
    bool operator==(const ShadowEffects&) const = default;
};

class ConfigShadow {
  public:
    // The bits of the command register that reach the device.
    static constexpr uint16_t forwarded_command_bits = 0x0406; // interrupt disable, bus master, memory space

    // Errors: protocol for an image that is no endpoint's (header type, broken chains, BARs whose size or
    // kind do not fit).
    static Result<ConfigShadow> create(const ShadowSource& source);

    size_t size_bytes() const { return values_.size(); }
    // The range must lie inside: out_of_range otherwise, for both.
    Result<> read(uint64_t offset_bytes, std::span<std::byte> data) const;
    Result<ShadowEffects> write(uint64_t offset_bytes, std::span<const std::byte> data);
    // As after power-on: what a function-level reset does to it.
    void reset();

    // Whether a BAR is one that the guest sees (I/O BARs are not).
    bool bar_visible(unsigned bar) const { return bar_visible_[bar]; }
    bool has_flr() const { return flr_offset_ != 0; }
    // The MSI-X capability that the guest sees, if any, and what it made of it. The table lies in visible
    // BARs.
    const std::optional<MsixCapability>& msix() const { return msix_; }
    bool msix_enabled() const;
    bool msix_masked() const;
    // Interrupt status as the device reports it, for the next reads of the status register.
    void set_interrupt_status(bool pending);

  private:
    ConfigShadow() = default;
    uint16_t msix_control() const;

    std::vector<std::byte> initial_;
    std::vector<std::byte> values_;
    std::vector<std::byte> writable_; // a bit set: the guest's write is kept
    std::array<bool, pci::bar_count> bar_visible_{};
    size_t flr_offset_ = 0; // of the device control register's high byte, 0: none
    std::optional<MsixCapability> msix_;
};

} // namespace lanepool::smartio
