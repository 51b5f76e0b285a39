// SPDX-License-Identifier: Apache-2.0
//
// Which parts of the window BARs are windows, and who has them. Pure bookkeeping: no registers.
//
// A BAR begins with LUT windows of one size, each with a target of its own; what is left behind them is the
// direct window. Small slots serve registers and doorbells, large ones guest memory: so where there are
// several BARs, the largest gets few large LUT windows and the others many small ones.
#pragma once

#include "base/result.h"
#include "ntb/adapter.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace lanepool::ntb {

// A BAR that can have windows.
struct WindowBar {
    unsigned slot = 0; // 0..5, numbered as the BARs
    uint64_t size_bytes = 0;
};

// How one BAR is divided.
struct BarWindows {
    unsigned slot = 0;
    unsigned first_entry = 0; // of the partition's LUT
    unsigned entries = 0;
    unsigned entry_log2 = 0;    // log2 of the size of one LUT window
    uint64_t direct_offset = 0; // of the direct window in the BAR
    unsigned direct_log2 = 0;   // log2 of the largest size that it can have; 0: there is none

    uint64_t entry_bytes() const { return uint64_t{1} << entry_log2; }
    uint64_t direct_bytes() const { return direct_log2 == 0 ? 0 : uint64_t{1} << direct_log2; }
};

// Divides BARs (at most six) that share a table of LUT_ENTRIES; in the order of their slots.
std::vector<BarWindows> plan_windows(std::span<const WindowBar> bars, unsigned lut_entries);

// Where a target's window lies.
struct Placement {
    unsigned slot = 0; // BAR
    bool direct = false;
    unsigned first = 0;        // first LUT entry, counted in the BAR
    unsigned table_entry = 0;  // the same, counted in the partition's LUT
    unsigned count = 0;        // of LUT entries
    unsigned size_log2 = 0;    // of one LUT entry, or of what a direct window translates
    BusAddress base;           // what the first byte of the first entry leads to: a multiple of its size
    uint64_t offset_bytes = 0; // of the target's first byte in the BAR
    uint64_t window_bytes = 0; // of a direct window: from its start to the target's end, whole pages
    bool operator==(const Placement&) const = default;
};

class WindowPool {
  public:
    explicit WindowPool(std::vector<BarWindows> bars);

    // A place for each target, in their order; all or nothing. Of the places that fit, one takes that which
    // uses the smallest share of its kind; for a target that lies at a multiple of its size (a power of two),
    // at such a multiple in the BAR where there is one free. Errors: no_space, out_of_range (empty or
    // wrapping target).
    Result<std::vector<Placement>> allocate(std::span<const Target> targets);
    void release(const Placement& placement);

    unsigned windows() const;
    unsigned windows_free() const;
    uint64_t largest_window_bytes() const;
    // The size of the slots that a peer with the same adapter usually opens to a target of SIZE bytes that
    // begins on such a slot's boundary: an export keeps that much to itself.
    uint64_t usual_slot_bytes(uint64_t size_bytes) const;
    const std::vector<BarWindows>& bars() const { return bars_; }

  private:
    struct Usage {
        std::vector<bool> entries;
        bool direct = false;
    };
    Result<Placement> place(const Target& target);
    std::string free_by_bar() const;

    std::vector<BarWindows> bars_;
    std::vector<Usage> used_;
};

} // namespace lanepool::ntb
