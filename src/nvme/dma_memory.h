// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "nvme/dma_allocator.h"

#include <memory>
#include <span>

namespace lanepool::nvme {

// What describes a transfer's memory to the controller (Base Specification 2.0, section 4.1.1).
struct Prps {
    uint64_t prp1 = 0;
    uint64_t prp2 = 0;
};

// Memory that this process and the device both see: zeroed, contiguous in IOVAs, there for the device as
// long as this lives. Must not outlive its function. While a command that names it may still run it must be
// kept: a device writes to it whenever it likes.
//
// The PRP lists for every transfer from it are written once, here, so that none is written per command. The
// device sees them read-only.
class DmaMemory {
  public:
    // The longest transfer that prps() can describe.
    static constexpr uint64_t max_transfer_pages = 256;

    // SIZE_BYTES is rounded up to pages of PAGE_BYTES, the controller's memory page (a power of two, 4096 or
    // more). NAME shows in /proc/PID/maps. Errors: no_space, and what mapping reports.
    static Result<DmaMemory> create(DmaAllocator& allocator, uint64_t size_bytes, uint64_t page_bytes,
                                    const char* name);
    DmaMemory() = default; // none
    DmaMemory(DmaMemory&&) noexcept = default;
    DmaMemory& operator=(DmaMemory&& other) noexcept = default;

    std::span<std::byte> bytes() const { return block_ ? block_->bytes() : std::span<std::byte>(); }
    uint64_t size_bytes() const { return bytes().size(); }
    Iova iova() const { return block_ ? block_->iova() : Iova{}; }

    // PRPs for SIZE_BYTES at OFFSET_BYTES, a multiple of four. Errors: out_of_range, invalid_argument.
    Result<Prps> prps(uint64_t offset_bytes, uint64_t size_bytes) const;

  private:
    void write_lists();

    uint64_t page_bytes_ = 0;
    std::unique_ptr<DmaBlock> block_;
    std::unique_ptr<DmaBlock> lists_; // for more than two pages
};

} // namespace lanepool::nvme
