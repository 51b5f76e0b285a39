// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/address.h"

#include <map>
#include <mutex>

namespace lanepool::nvme {

// Hands out IOVAs of a function for the memory that its driver shows it. Thread-safe.
class IovaSpace {
  public:
    // From 4 GiB up: above everything that a platform reserves in the IOMMU (the MSI window at 0xfee00000),
    // and below the 39 bits that the smallest IOMMUs have.
    static constexpr uint64_t default_start = uint64_t{1} << 32;
    static constexpr uint64_t default_size_bytes = uint64_t{1} << 38;

    explicit IovaSpace(Iova start = {default_start}, uint64_t size_bytes = default_size_bytes)
        : start_(start.value), end_(start.value + size_bytes) {}

    // The lowest free range of SIZE_BYTES, aligned to ALIGNMENT_BYTES, a power of two. Errors: no_space,
    // invalid_argument for a size of zero.
    Result<Range<Iova>> allocate(uint64_t size_bytes, uint64_t alignment_bytes);
    // RANGE is one that allocate() gave.
    void release(Range<Iova> range);

  private:
    std::mutex mutex_;
    uint64_t start_;
    uint64_t end_;
    std::map<uint64_t, uint64_t> used_; // start to end
};

} // namespace lanepool::nvme
