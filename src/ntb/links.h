// SPDX-License-Identifier: Apache-2.0
//
// Which ports of the switch are up, and the events that say that it changed.
#pragma once

#include "ntb/probe.h"
#include "ntb/registers.h"

namespace lanepool::ntb {

// Thread-safe.
class Links {
  public:
    Links(Registers registers, const Identity& identity) : registers_(registers), identity_(identity) {}

    Result<bool> up(Partition partition) const; // not_found when it has no endpoint
    // Lets every port's link event interrupt us.
    Result<> enable_events() const;
    // Takes the events that have occurred; whether there were any.
    Result<bool> take_events() const;

  private:
    uint64_t link_event(unsigned partition) const;

    Registers registers_;
    const Identity& identity_;
};

} // namespace lanepool::ntb
