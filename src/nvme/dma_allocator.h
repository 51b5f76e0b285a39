// SPDX-License-Identifier: Apache-2.0
//
// Where a driver gets memory that its device reaches too. Two ways: the driver chooses the IOVAs and maps
// memory of its own for the function (FunctionDmaAllocator), or somebody else owns the mapping and tells
// where it put it, such as the lender of a device.
#pragma once

#include "base/mapping.h"
#include "nvme/iova_space.h"
#include "pci/function.h"

#include <memory>
#include <span>

namespace lanepool::nvme {

// A range of memory and where the device sees it, contiguously. Destroying gives it back: the device must not
// be using it any more.
class DmaBlock {
  public:
    virtual ~DmaBlock() = default;
    DmaBlock(const DmaBlock&) = delete;
    DmaBlock& operator=(const DmaBlock&) = delete;

    std::span<std::byte> bytes() const { return bytes_; }
    Iova iova() const { return iova_; }

  protected:
    DmaBlock(std::span<std::byte> bytes, Iova iova) : bytes_(bytes), iova_(iova) {}

  private:
    std::span<std::byte> bytes_;
    Iova iova_;
};

class DmaAllocator {
  public:
    virtual ~DmaAllocator() = default;
    // SIZE_BYTES of zeroes at a multiple of ALIGNMENT_BYTES in the device's address space; the alignment is a
    // power of two, 4096 or more, and divides the size. ACCESS is what the device needs; it may be given
    // more. NAME is for whoever looks at the memory. Thread-safe. Blocks may outlive the allocator, not the
    // function. Errors: no_space, and those of the mapping.
    virtual Result<std::unique_ptr<DmaBlock>> allocate(uint64_t size_bytes, uint64_t alignment_bytes,
                                                       Access access, const char* name) = 0;
};

// Memory of this process, mapped for FUNCTION (which must outlive the blocks) at IOVAs from START on, where
// nobody else maps anything.
class FunctionDmaAllocator final : public DmaAllocator {
  public:
    explicit FunctionDmaAllocator(pci::Function& function, Iova start = {IovaSpace::default_start})
        : function_(function), space_(std::make_shared<IovaSpace>(start)) {}
    Result<std::unique_ptr<DmaBlock>> allocate(uint64_t size_bytes, uint64_t alignment_bytes, Access access,
                                               const char* name) override;

  private:
    pci::Function& function_;
    std::shared_ptr<IovaSpace> space_;
};

} // namespace lanepool::nvme
