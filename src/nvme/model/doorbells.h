// SPDX-License-Identifier: Apache-2.0
//
// The doorbells: words of memory that the client maps and writes, and that the controller polls.
#pragma once

#include "device_model/bar_memory.h"
#include "nvme/model/config_space.h"

#include <cstdint>

namespace lanepool::nvme::model {

using device_model::load_word;
using device_model::store_word;

inline constexpr size_t doorbell_count = doorbell_page_bytes / sizeof(uint32_t);

// SQyTDBL and CQyHDBL as indexes into the page (CAP.DSTRD is 0), and into a shadow doorbell buffer.
constexpr size_t submission_doorbell(uint16_t queue) { return 2u * queue; }
constexpr size_t completion_doorbell(uint16_t queue) { return 2u * queue + 1u; }

class Doorbells {
  public:
    // MEMORY has the doorbell page and must outlive this.
    explicit Doorbells(device_model::BarMemory& memory) : memory_(memory) {}

    // All zeroes, in place.
    void clear() { memory_.clear(doorbell_page_offset, doorbell_page_bytes); }
    uint32_t load(size_t index) const { return memory_.load(doorbell_page_offset + 4 * index); }
    void store(size_t index, uint32_t value) { memory_.store(doorbell_page_offset + 4 * index, value); }

  private:
    device_model::BarMemory& memory_;
};

} // namespace lanepool::nvme::model
