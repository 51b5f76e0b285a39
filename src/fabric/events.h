// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ntb/switchtec.h"

#include <array>
#include <cstdint>

namespace lanepool::fabric {

// One event header: occurred, enabled, how often. `write` and `happened` say whether it wants an interrupt
// now.
class EventHeader {
  public:
    uint32_t value() const { return value_; }
    bool happened() {
        using namespace ntb::switchtec::event;
        const auto count = static_cast<uint8_t>(Count::get(value_) + 1);
        value_ = Count::set(Occurred::set(value_, true), count);
        return EnableIrq::get(value_);
    }
    bool write(uint32_t value) {
        using namespace ntb::switchtec::event;
        const bool was_enabled = EnableIrq::get(value_);
        if (Occurred::get(value)) value_ = Occurred::set(value_, false);
        value_ = EnableIrq::set(value_, EnableIrq::get(value));
        return !was_enabled && EnableIrq::get(value_) && Occurred::get(value_);
    }

  private:
    uint32_t value_ = 0;
};

// The events that one partition sees.
struct Events {
    std::array<EventHeader, ntb::switchtec::max_partitions> link; // of each partition's port
    EventHeader mrpc;                                             // a command is complete
};

} // namespace lanepool::fabric
