// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/address.h"
#include "fabric/counters.h"
#include "fabric/dma_table.h"

#include <cstdint>
#include <optional>
#include <vector>

namespace lanepool::fabric {

class Port;
class Switch;

// A piece of an access through a window that leads to one place.
struct Segment {
    uint64_t offset_bytes = 0; // in the access
    uint64_t size_bytes = 0;
    std::optional<Obstacle> obstacle;
    // Without an obstacle other than not_mapped: where it leads.
    unsigned partition = 0;
    Iova address; // the bus address, as the target's port issues it
    // Without an obstacle: none where only the target's client knows what is there.
    std::optional<DmaMapping> mapping;

    // The memory or the event that is there, if any.
    const Backing* memory() const { return !obstacle && mapping ? mapping->memory.get() : nullptr; }
    const UniqueFd* event() const { return !obstacle && mapping ? mapping->event.get() : nullptr; }
};

// Takes SIZE bytes at OFFSET of window BAR SLOT of SOURCE apart; the range must lie in the BAR. The segments
// cover it, in order.
std::vector<Segment> translate(Switch& fabric, const Port& source, unsigned slot, uint64_t offset_bytes,
                               uint64_t size_bytes);

} // namespace lanepool::fabric
