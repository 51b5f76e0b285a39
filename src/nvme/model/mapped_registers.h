// SPDX-License-Identifier: Apache-2.0
//
// The register page as memory: for clients that dereference pointers to the BAR and cannot be trapped.
#pragma once

#include "device_model/bar_memory.h"
#include "nvme/model/registers.h"

#include <array>

namespace lanepool::nvme::model {

// Keeps memory and registers in step, both ways: what the client has written to memory is a register write
// that was noticed later, and what registers say is shown in memory. The registers are the truth: memory is
// compared with what was last shown there, word by word.
//
// What cannot be noticed this way: a write of the value that is there already, so no register may act on
// those. Of NVMe's, the interrupt masks do (write-1-to-set INTMS, write-1-to-clear INTMC, Base Specification
// 2.0, 3.1.3.3): they read as they should and ignore writes, as they must not be used with MSI-X anyway.
class MappedRegisters {
  public:
    // MEMORY has the register page; both must outlive this.
    MappedRegisters(device_model::BarMemory& memory, Registers& registers)
        : memory_(memory), registers_(registers) {}

    // Whether look() is due now rather than when there is time: CC was written, or the registers have
    // changed.
    bool pending() const {
        return memory_.load(reg::cc) != shown(reg::cc) || generation_ != registers_.generation();
    }
    // Takes what the client has written: registers it may not write are restored. The controller acts on
    // what CC has become and then calls show().
    Registers::Written look();
    // Shows what the registers say. What a client writes meanwhile stays for the next look().
    void show();
    // The same, over whatever a client has written: after a reset, or in fresh memory.
    void show_all();

  private:
    uint32_t& shown(uint64_t offset) { return shown_[offset / 4]; }
    const uint32_t& shown(uint64_t offset) const { return shown_[offset / 4]; }

    device_model::BarMemory& memory_;
    Registers& registers_;
    uint64_t generation_ = 0;
    std::array<uint32_t, Registers::size_bytes / 4> shown_{};
};

} // namespace lanepool::nvme::model
