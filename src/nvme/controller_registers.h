// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "io/clock.h"
#include "nvme/spec.h"
#include "pci/function.h"

namespace lanepool::nvme {

// The controller's registers, with what a bus adds to them: a device that is gone reads as all-ones, and that
// is the error `disconnected` here, whatever register it was. One thread.
class ControllerRegisters {
  public:
    ControllerRegisters(pci::Function& function, const io::Clock& clock)
        : function_(function), clock_(clock) {}

    Result<uint64_t> capabilities();
    Result<uint32_t> configuration();
    Result<uint32_t> status();
    Result<> write32(uint64_t offset_bytes, uint32_t value);
    Result<> write64(uint64_t offset_bytes, uint64_t value);

    // How long CSTS.RDY may take to change (CAP.TO; at least half a second, as zero means nothing).
    static io::Duration ready_timeout(uint64_t capabilities);

    // CC.EN = 0, then waits for CSTS.RDY = 0 until DEADLINE. Errors: timeout, disconnected.
    Result<> disable(io::TimePoint deadline);
    // Writes CONFIGURATION (with EN), then waits for RDY = 1. Errors: timeout, disconnected, io for a fatal
    // status (CSTS.CFS).
    Result<> enable(uint32_t configuration, io::TimePoint deadline);
    // CC.SHN = normal, then waits for CSTS.SHST = complete. Errors as above.
    Result<> shut_down(io::TimePoint deadline);

    // Bus mastering and memory space of the PCI command register; INTx is always off, as nobody listens to
    // it.
    Result<> set_bus_master(bool on);

  private:
    Result<uint32_t> read_live(uint64_t offset_bytes, const char* name);
    // Until (CSTS & MASK) == VALUE.
    Result<> wait_status(uint32_t mask, uint32_t value, io::TimePoint deadline, const char* what);

    pci::Function& function_;
    const io::Clock& clock_;
};

// Sleeps while a slow thing is polled: not at all in the first rounds, then longer and longer, at most LIMIT.
class Backoff {
  public:
    explicit Backoff(io::Duration limit = std::chrono::milliseconds(10)) : limit_(limit) {}
    void pause();

  private:
    io::Duration limit_;
    io::Duration next_{0};
};

} // namespace lanepool::nvme
