// SPDX-License-Identifier: Apache-2.0
//
// The control block of the adapter's own partition: nothing in it changes but under its lock, and all that
// was written under one lock comes into force together.
#pragma once

#include "base/result.h"
#include "io/clock.h"
#include "ntb/registers.h"
#include "ntb/switchtec.h"
#include "ntb/window_pool.h"

#include <cstdint>
#include <functional>

namespace lanepool::ntb {

// How long the switch may take for one operation. Linux waits much longer; a host that waits for a window
// would rather know.
inline constexpr io::Duration control_timeout = std::chrono::seconds(1);

// One call at a time: the caller holds a mutex.
class ControlBlock {
  public:
    ControlBlock(Registers registers, unsigned partition) : registers_(registers), partition_(partition) {}

    // Takes every window and requester away, and the lock of an owner that died. Errors: timeout.
    Result<> reset() const;

    // Locks, calls WRITE, puts into force what it wrote. When WRITE or the switch refuses, UNDO must write
    // back what was there; that is put into force instead, and the first error returned. Errors: timeout
    // (somebody else holds the lock, or the switch hangs), io (refused: names what the switch complains
    // about); then CLEAN says whether what was in force before still is.
    Result<> change(const std::function<Result<>()>& write, const std::function<Result<>()>& undo,
                    bool& clean) const;

    // To be called from inside change().
    Result<> write_bar(const BarWindows& bar) const; // its LUT windows, no direct window
    // BAR is that of the placement.
    Result<> write_window(const BarWindows& bar, const Placement& placement, Partition partition) const;
    Result<> clear_window(const BarWindows& bar, const Placement& placement) const;
    Result<> write_requester(unsigned slot, uint32_t entry) const;
    Result<> write_partition_ctrl(uint32_t value) const;

    // Sizes of the tables, and which BARs have windows.
    Result<unsigned> lut_entries() const;
    Result<unsigned> requesters() const;
    Result<bool> has_windows(unsigned slot) const;

  private:
    Result<switchtec::ControlStatus> status() const;
    Result<> run(switchtec::ControlOp op, switchtec::ControlStatus wanted) const;
    Result<> config() const;
    Result<> write_lut(unsigned entry, uint64_t value) const;
    uint64_t at(uint64_t offset_bytes) const;

    Registers registers_;
    unsigned partition_;
};

} // namespace lanepool::ntb
