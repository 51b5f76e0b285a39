// SPDX-License-Identifier: Apache-2.0
//
// Where on its adapter's bus a host's exports lie. Pure bookkeeping. Each export has an aligned block to
// itself: aligned to its own size, so that a window of any kind can lead to it, and at least as large as a
// window slot, so that a peer's window to it leads to nothing else. Places are given out in turn, so that one
// that was withdrawn stays empty for as long as can be: a peer that keeps its window to it keeps nothing,
// also when something else has been exported since.
#pragma once

#include "base/address.h"
#include "base/result.h"

#include <cstdint>
#include <map>
#include <optional>

namespace lanepool::ntb {

class BusAllocator {
  public:
    // At most MAX_EXPORTS blocks in SPACE.
    BusAllocator(Range<BusAddress> space, size_t max_exports)
        : space_(space), max_exports_(max_exports), next_(space.start()) {}

    // The next place that is free for a block of at least SLOT_BYTES (a power of two), after the end of the
    // space from its start again. Errors: no_space, out_of_range (a size that cannot be aligned).
    Result<BusAddress> allocate(uint64_t size_bytes, uint64_t slot_bytes);
    // The next search begins at the start of the space.
    void begin_anew() { next_ = space_.start(); }
    // Exactly this range, also outside of the space. Errors: already_exists, out_of_range, no_space.
    Result<> reserve(BusAddress address, uint64_t size_bytes);
    // ADDRESS is one that was given out.
    void release(BusAddress address) { blocks_.erase(address); }

    size_t exports() const { return blocks_.size(); }

  private:
    Result<> check_count() const;
    std::optional<Range<BusAddress>> first_fit(BusAddress from, uint64_t block_bytes) const;

    Range<BusAddress> space_;
    size_t max_exports_;
    BusAddress next_;                                // where the search begins
    std::map<BusAddress, Range<BusAddress>> blocks_; // by start
};

} // namespace lanepool::ntb
