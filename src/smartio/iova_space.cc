// SPDX-License-Identifier: Apache-2.0
#include "smartio/iova_space.h"

namespace lanepool::smartio {

namespace {

constexpr uint64_t page_bytes = 4096;
constexpr uint64_t large_bytes = uint64_t{2} << 20;
// Above what drivers that choose for themselves begin with, and the range in which x86 takes writes for
// interrupts; below what the smallest IOMMUs of servers can address (39 bits: Intel VT-d Architecture
// Specification, SAGAW of the capability register).
const auto space = *Range<Iova>::create({uint64_t{1} << 32}, (uint64_t{1} << 39) - (uint64_t{1} << 32));

Iova align_up(Iova iova, uint64_t alignment) {
    return {(iova.value + alignment - 1) / alignment * alignment};
}

} // namespace

const Range<Iova>* IovaSpace::overlapping(const Range<Iova>& range) const {
    const auto after = used_.upper_bound(range.last());
    if (after == used_.begin()) return nullptr;
    const auto& last = std::prev(after)->second;
    return last.overlaps(range) ? &last : nullptr;
}

Result<> IovaSpace::reserve(Range<Iova> range) {
    if (const auto* other = overlapping(range))
        return fail(Errc::already_exists,
                    "{} bytes at {:#x} overlap what is mapped for the device at {:#x} already",
                    range.size_bytes(), range.start().value, other->start().value);
    used_.emplace(range.start(), range);
    return {};
}

std::optional<Range<Iova>> IovaSpace::first_fit(Iova from, uint64_t size_bytes, uint64_t alignment) const {
    for (Iova start = align_up(from, alignment);
         start <= space.last() && size_bytes <= space.last() - start + 1;) {
        const auto range = *Range<Iova>::create(start, size_bytes);
        const auto* other = overlapping(range);
        if (!other) return range;
        if (other->last() >= space.last()) break;
        start = align_up(other->last() + 1, alignment);
    }
    return std::nullopt;
}

Result<Range<Iova>> IovaSpace::allocate(uint64_t size_bytes) {
    if (size_bytes == 0 || size_bytes > space.size_bytes())
        return fail(Errc::out_of_range, "{} bytes cannot be placed for a device", size_bytes);
    const uint64_t alignment = size_bytes >= large_bytes ? large_bytes : page_bytes;
    const uint64_t block_bytes = (size_bytes + page_bytes - 1) / page_bytes * page_bytes + page_bytes;
    auto block = first_fit(next_.value_or(space.start()), block_bytes, alignment);
    if (!block) block = first_fit(space.start(), block_bytes, alignment);
    if (!block)
        return fail(Errc::no_space, "no {} bytes are free between the addresses that the device uses",
                    size_bytes);
    used_.emplace(block->start(), *block);
    next_ = block->last() + 1;
    return Range<Iova>::create(block->start(), size_bytes);
}

} // namespace lanepool::smartio
