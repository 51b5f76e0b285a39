// SPDX-License-Identifier: Apache-2.0
//
// Memory for the NVMe driver on a drive that an application has borrowed:
//
//     auto function = TRY(DeviceFunction::borrow(session, fdid, Sharing::exclusive, 10s));
//     auto memory = std::make_shared<nvme::BorrowedMemory>(session, function->device());
//     auto driver = TRY(nvme::Driver::create(*function, io::system_clock(), {.allocator = memory}));
#pragma once

#include "lanepool/device.h"
#include "lanepool/session.h"
#include "nvme/dma_allocator.h"

namespace lanepool::nvme {

class BorrowedMemory final : public DmaAllocator {
  public:
    // Both must outlive this and its blocks.
    BorrowedMemory(Session& session, Device& device) : session_(session), device_(device) {}
    // A private segment of this process, where the lender has put it for the device.
    Result<std::unique_ptr<DmaBlock>> allocate(uint64_t size_bytes, uint64_t alignment_bytes, Access access,
                                               const char* name) override;

  private:
    Session& session_;
    Device& device_;
};

} // namespace lanepool::nvme
