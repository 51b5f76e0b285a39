// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/address.h"
#include "base/result.h"

#include <cstdint>
#include <map>
#include <optional>

namespace lanepool::smartio {

// Which addresses of one device lead somewhere: all its loans share them. Pure bookkeeping.
//
// Places are given out in turn, with an empty page behind each: a device that goes on using an address which
// was taken away, or one byte too many, reaches nothing rather than what somebody else has placed since.
class IovaSpace {
  public:
    // Exactly this range, chosen by who borrows. Errors: already_exists (overlap).
    Result<> reserve(Range<Iova> range);
    // A range for SIZE bytes, chosen here: 2 MiB-aligned if it is as large as that (an IOMMU then needs few
    // entries), page-aligned else. Errors: out_of_range (size zero), no_space.
    Result<Range<Iova>> allocate(uint64_t size_bytes);
    // START is that of a range which was reserved or allocated.
    void release(Iova start) { used_.erase(start); }

    // Nothing leads anywhere any more.
    void clear() { used_.clear(); }

    size_t ranges() const { return used_.size(); }

  private:
    // The range in use that overlaps, if any.
    const Range<Iova>* overlapping(const Range<Iova>& range) const;
    std::optional<Range<Iova>> first_fit(Iova from, uint64_t size_bytes, uint64_t alignment) const;

    std::map<Iova, Range<Iova>> used_; // by start; of allocated ones with the page behind
    std::optional<Iova> next_;         // where the search begins
};

} // namespace lanepool::smartio
