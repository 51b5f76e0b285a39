// SPDX-License-Identifier: Apache-2.0
#include "nvme/dma_memory.h"

#include "base/endian.h"

#include <cstring>

namespace lanepool::nvme {

namespace {
// A list may not run past the end of its page, and may start anywhere in it. So each page of lists names
// twice as many pages of memory as a transfer has, and the next one starts half-way through: for every first
// page there is a list with a whole transfer's entries behind it.
constexpr uint64_t entries_per_list = 2 * DmaMemory::max_transfer_pages;
constexpr uint64_t list_bytes = entries_per_list * sizeof(le64);
static_assert(list_bytes == 4096, "a list must lie within the smallest memory page");

uint64_t round_up(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }
} // namespace

Result<DmaMemory> DmaMemory::create(DmaAllocator& allocator, uint64_t size_bytes, uint64_t page_bytes,
                                    const char* name) {
    if (size_bytes == 0 || size_bytes > IovaSpace::default_size_bytes)
        return fail(Errc::invalid_argument, "cannot allocate {} bytes of DMA memory", size_bytes);
    DmaMemory memory;
    memory.page_bytes_ = page_bytes;
    memory.block_ =
        TRY(allocator.allocate(round_up(size_bytes, page_bytes), page_bytes, Access::read_write, name));
    const uint64_t pages = memory.size_bytes() / page_bytes;
    if (pages > 2) { // up to two pages go into the command itself
        const uint64_t lists = (pages + max_transfer_pages - 1) / max_transfer_pages;
        memory.lists_ = TRY(allocator.allocate(round_up(lists * list_bytes, page_bytes), page_bytes,
                                               Access::read_only, "lanepool-prp-lists"));
        memory.write_lists();
    }
    return memory;
}

void DmaMemory::write_lists() {
    const uint64_t pages = size_bytes() / page_bytes_;
    auto lists = lists_->bytes();
    for (uint64_t list = 0; list * list_bytes < lists.size(); ++list) {
        for (uint64_t entry = 0; entry < entries_per_list; ++entry) {
            const uint64_t page = list * max_transfer_pages + entry;
            if (page >= pages) break;
            const le64 address = block_->iova().value + page * page_bytes_;
            std::memcpy(&lists[list * list_bytes + entry * sizeof address], &address, sizeof address);
        }
    }
}

Result<Prps> DmaMemory::prps(uint64_t offset_bytes, uint64_t size_bytes) const {
    if (offset_bytes > this->size_bytes() || size_bytes > this->size_bytes() - offset_bytes)
        return fail(Errc::out_of_range, "{} bytes at offset {:#x} lie outside of {} bytes of DMA memory",
                    size_bytes, offset_bytes, this->size_bytes());
    if (size_bytes == 0 || offset_bytes % 4 != 0)
        return fail(Errc::invalid_argument,
                    "a transfer of {} bytes at offset {:#x}: must be some, at a multiple of 4", size_bytes,
                    offset_bytes);
    const uint64_t first_page = offset_bytes / page_bytes_;
    const uint64_t pages = (offset_bytes + size_bytes - 1) / page_bytes_ - first_page + 1;
    if (pages > max_transfer_pages)
        return fail(Errc::out_of_range, "a transfer of {} pages is longer than {}", pages,
                    max_transfer_pages);
    Prps prps{block_->iova().value + offset_bytes, 0};
    if (pages == 2) prps.prp2 = block_->iova().value + (first_page + 1) * page_bytes_;
    if (pages > 2) {
        const uint64_t second = first_page + 1;
        const uint64_t list = second / max_transfer_pages;
        prps.prp2 = lists_->iova().value + list * list_bytes + second % max_transfer_pages * sizeof(le64);
    }
    return prps;
}

} // namespace lanepool::nvme
