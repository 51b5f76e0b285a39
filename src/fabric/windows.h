// SPDX-License-Identifier: Apache-2.0
//
// The windows that are in force for one partition: what the control block's registers mean, once checked.
#pragma once

#include "base/address.h"
#include "fabric/options.h"
#include "ntb/switchtec.h"

#include <array>
#include <cstdint>
#include <optional>

namespace lanepool::fabric {

// Where an offset in a window BAR leads, and for how many bytes that holds.
struct Hop {
    struct Target {
        unsigned partition;
        BusAddress address;
    };
    std::optional<Target> target; // none: no window there
    uint64_t size_bytes = 0;
};

struct WindowErrors {
    uint8_t bars = 0;                  // slots that are wrong, by bit
    std::optional<uint16_t> lut_entry; // the first that is wrong
    explicit operator bool() const { return bars != 0 || lut_entry.has_value(); }
};

class Windows {
  public:
    Windows() = default;
    // No windows at all. LUT_ENTRIES: how many the BARs may have together, max_lut_entries at most.
    Windows(const WindowBars& bars, unsigned lut_entries) : bars_(bars), lut_entries_(lut_entries) {}

    // Replaces what is in force by what REGISTERS say; TARGETS are the partitions that windows may lead to.
    // Changes nothing when there are errors.
    WindowErrors configure(const ntb::switchtec::ControlBlock& registers, uint64_t targets);

    // SLOT and OFFSET must lie in a window BAR.
    Hop translate(unsigned slot, uint64_t offset_bytes) const;
    // How many windows lead somewhere.
    unsigned count() const;

  private:
    struct Direct {
        uint64_t offset_bytes;
        uint64_t size_bytes;
        Hop::Target target;
    };
    struct Slot {
        unsigned lut_size_log2 = 0;
        unsigned lut_count = 0; // 0: no LUT windows
        unsigned first_entry = 0;
        std::optional<Direct> direct;
        uint64_t lut_bytes() const { return uint64_t{lut_count} << lut_size_log2; }
    };
    bool configure_lut(unsigned slot, uint32_t ctl, unsigned& next_entry);
    bool configure_direct(unsigned slot, const ntb::switchtec::ControlBlock& registers, uint64_t targets);
    std::optional<uint16_t> configure_entries(const Slot& slot, const ntb::switchtec::ControlBlock& registers,
                                              uint64_t targets);

    WindowBars bars_{};
    unsigned lut_entries_ = 0;
    std::array<Slot, ntb::switchtec::bar_slots> slots_;
    std::array<std::optional<Hop::Target>, ntb::switchtec::max_lut_entries> entries_;
};

} // namespace lanepool::fabric
