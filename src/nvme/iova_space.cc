// SPDX-License-Identifier: Apache-2.0
#include "nvme/iova_space.h"

namespace lanepool::nvme {

Result<Range<Iova>> IovaSpace::allocate(uint64_t size_bytes, uint64_t alignment_bytes) {
    const std::lock_guard lock(mutex_);
    const auto align = [&](uint64_t value) { return (value + alignment_bytes - 1) & ~(alignment_bytes - 1); };
    uint64_t position = align(start_);
    for (const auto& [used_start, used_end] : used_) {
        if (position <= used_start && used_start - position >= size_bytes) break;
        position = align(used_end);
    }
    if (position > end_ || end_ - position < size_bytes)
        return fail(Errc::no_space, "no {} bytes of the device's address space are left", size_bytes);
    auto range = TRY(Range<Iova>::create({position}, size_bytes));
    used_.emplace(position, position + size_bytes);
    return range;
}

void IovaSpace::release(Range<Iova> range) {
    const std::lock_guard lock(mutex_);
    used_.erase(range.start().value);
}

} // namespace lanepool::nvme
