// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/mapping.h"
#include "nvme/iova_space.h"
#include "pci/function.h"

#include <memory>
#include <span>

namespace lanepool::nvme {

// What describes a transfer's memory to the controller (Base Specification 2.0, section 4.1.1).
struct Prps {
    uint64_t prp1 = 0;
    uint64_t prp2 = 0;
};

// Memory that this process and the device both see: zeroed, contiguous in IOVAs, mapped for the device as
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
    static Result<DmaMemory> create(pci::Function& function, std::shared_ptr<IovaSpace> space,
                                    uint64_t size_bytes, uint64_t page_bytes, const char* name);
    DmaMemory() = default;
    DmaMemory(DmaMemory&&) noexcept = default;
    DmaMemory& operator=(DmaMemory&& other) noexcept = default;

    std::span<std::byte> bytes() const { return block_.mapping.bytes(); }
    uint64_t size_bytes() const { return block_.mapping.size_bytes(); }
    Iova iova() const { return block_.iova; }

    // PRPs for SIZE_BYTES at OFFSET_BYTES, a multiple of four. Errors: out_of_range, invalid_argument.
    Result<Prps> prps(uint64_t offset_bytes, uint64_t size_bytes) const;

  private:
    // The order matters: the device loses the range before it is given back.
    struct Lease {
        std::shared_ptr<IovaSpace> space;
        std::optional<Range<Iova>> range;
        Lease() = default;
        Lease(std::shared_ptr<IovaSpace> s, Range<Iova> r) : space(std::move(s)), range(r) {}
        Lease(Lease&& other) noexcept = default;
        Lease& operator=(Lease&& other) noexcept;
        ~Lease() { release(); }
        void release();
    };
    struct Block {
        Lease lease;
        Mapping mapping;
        pci::DmaMapping dma;
        Iova iova;
    };
    static Result<Block> map(pci::Function& function, const std::shared_ptr<IovaSpace>& space,
                             uint64_t size_bytes, uint64_t page_bytes, const char* name, Access access);
    void write_lists();

    uint64_t page_bytes_ = 0;
    Block block_;
    Block lists_;
};

} // namespace lanepool::nvme
