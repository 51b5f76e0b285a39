// SPDX-License-Identifier: Apache-2.0
#include "nvme/dma_allocator.h"

namespace lanepool::nvme {

namespace {

// A range of the space, given back with it.
class Lease {
  public:
    Lease(std::shared_ptr<IovaSpace> space, Range<Iova> range) : space_(std::move(space)), range_(range) {}
    Lease(Lease&&) noexcept = default;
    Lease& operator=(Lease&&) = delete;
    ~Lease() {
        if (space_) space_->release(range_);
    }
    const Range<Iova>& range() const { return range_; }

  private:
    std::shared_ptr<IovaSpace> space_;
    Range<Iova> range_;
};

class FunctionDmaBlock final : public DmaBlock {
  public:
    FunctionDmaBlock(Lease lease, Mapping mapping, pci::DmaMapping dma)
        : DmaBlock(mapping.bytes(), lease.range().start()), lease_(std::move(lease)),
          mapping_(std::move(mapping)), dma_(std::move(dma)) {}

  private:
    // The order matters: the device loses the range before it is given back.
    Lease lease_;
    Mapping mapping_;
    pci::DmaMapping dma_;
};

} // namespace

Result<std::unique_ptr<DmaBlock>> FunctionDmaAllocator::allocate(uint64_t size_bytes,
                                                                 uint64_t alignment_bytes, Access access,
                                                                 const char* name) {
    Lease lease(space_, TRY(space_->allocate(size_bytes, alignment_bytes)));
    const auto fd = share(TRY(create_memory(name, size_bytes)));
    auto mapping = TRY(Mapping::create(fd->get(), 0, size_bytes));
    auto dma = TRY(function_.map_dma(lease.range(), MemoryRef{fd, 0, size_bytes}, access));
    return std::make_unique<FunctionDmaBlock>(std::move(lease), std::move(mapping), std::move(dma));
}

} // namespace lanepool::nvme
