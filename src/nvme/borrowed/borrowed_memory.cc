// SPDX-License-Identifier: Apache-2.0
#include "nvme/borrowed/borrowed_memory.h"

#include "lanepool/segment.h"

#include <limits>

namespace lanepool::nvme {

namespace {

constexpr uint64_t page_bytes = 4096; // what every lender aligns to

class BorrowedBlock final : public DmaBlock {
  public:
    BorrowedBlock(Segment segment, DeviceMapping mapping, uint64_t skip_bytes, uint64_t size_bytes)
        : DmaBlock(segment.bytes().subspan(skip_bytes, size_bytes), {mapping.address() + skip_bytes}),
          segment_(std::move(segment)), mapping_(std::move(mapping)) {}

  private:
    // The order matters: the device loses the memory before it is given back.
    Segment segment_;
    DeviceMapping mapping_;
};

} // namespace

Result<std::unique_ptr<DmaBlock>> BorrowedMemory::allocate(uint64_t size_bytes, uint64_t alignment_bytes,
                                                           Access access, const char* name) {
    // A larger alignment is found inside of what is mapped: the lender chooses where that lies.
    const uint64_t spare = alignment_bytes - page_bytes;
    if (alignment_bytes < page_bytes || size_bytes > std::numeric_limits<uint64_t>::max() - spare)
        return fail(Errc::invalid_argument, "{} of {:#x} bytes, aligned to {:#x}", name, size_bytes,
                    alignment_bytes);
    auto segment = TRY(Segment::create(session_, {.size_bytes = size_bytes + spare, .is_private = true}));
    auto mapping = TRY(device_.map(segment, {.access = access}));
    const uint64_t skip = (alignment_bytes - mapping.address() % alignment_bytes) % alignment_bytes;
    if (skip > spare)
        return fail(Errc::protocol, "{} lies at {:#x} for the device, not at a page's start", name,
                    mapping.address());
    return std::make_unique<BorrowedBlock>(std::move(segment), std::move(mapping), skip, size_bytes);
}

} // namespace lanepool::nvme
