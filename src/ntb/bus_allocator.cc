// SPDX-License-Identifier: Apache-2.0
#include "ntb/bus_allocator.h"

#include <algorithm>
#include <bit>

namespace lanepool::ntb {

Result<> BusAllocator::check_count() const {
    if (blocks_.size() >= max_exports_)
        return fail(Errc::no_space, "this adapter already has {} exports, which is the limit",
                    blocks_.size());
    return {};
}

// The lowest free block of BLOCK_BYTES (a power of two), aligned to them, at or after FROM.
std::optional<Range<BusAddress>> BusAllocator::first_fit(BusAddress from, uint64_t block_bytes) const {
    const auto align_up = [&](uint64_t value) { return (value + block_bytes - 1) & ~(block_bytes - 1); };
    uint64_t candidate = align_up(from.value);
    if (candidate < from.value) return std::nullopt; // wrapped around: nothing is left above
    for (const auto& [start, block] : blocks_) {
        if (block.last().value < candidate) continue;
        if (start.value >= candidate && start.value - candidate >= block_bytes) break;
        const uint64_t next = align_up(block.last().value + 1);
        if (next <= candidate) return std::nullopt;
        candidate = next;
    }
    const auto block = Range<BusAddress>::create({candidate}, block_bytes);
    if (!block || !space_.contains(*block)) return std::nullopt;
    return *block;
}

Result<BusAddress> BusAllocator::allocate(uint64_t size_bytes, uint64_t slot_bytes) {
    TRY(check_count());
    if (size_bytes == 0 || size_bytes > uint64_t{1} << 62)
        return fail(Errc::out_of_range, "{} bytes cannot be exported", size_bytes);
    const uint64_t block_bytes = std::max(std::bit_ceil(size_bytes), slot_bytes);
    auto block = first_fit(next_, block_bytes);
    if (!block) block = first_fit(space_.start(), block_bytes);
    if (!block)
        return fail(
            Errc::no_space,
            "no {} bytes of bus addresses for an export of {} bytes: {} exports lie between {:#x} and {:#x}",
            block_bytes, size_bytes, blocks_.size(), space_.start().value, space_.last().value);
    blocks_.emplace(block->start(), *block);
    next_ = block->last() + 1; // of the whole address space's last block: 0, which is before the start
    return block->start();
}

Result<> BusAllocator::reserve(BusAddress address, uint64_t size_bytes) {
    TRY(check_count());
    const auto range = TRY(Range<BusAddress>::create(address, size_bytes));
    for (const auto& [start, block] : blocks_)
        if (block.overlaps(range))
            return fail(Errc::already_exists, "the bus addresses {:#x} to {:#x} overlap an export at {:#x}",
                        range.start().value, range.last().value, start.value);
    blocks_.emplace(address, range);
    return {};
}

} // namespace lanepool::ntb
