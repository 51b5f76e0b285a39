// SPDX-License-Identifier: Apache-2.0
//
// The fabric and a loan of a shared drive, as a session has them.
#pragma once

#include "lanepool/device_function.h"
#include "lanepool/smartio.h"
#include "nvme/borrowed/borrowed_memory.h"
#include "share/fabric.h"

#include <memory>
#include <optional>

namespace lanepool::sharing {

// SESSION must outlive it.
class SessionFabric final : public Fabric {
  public:
    explicit SessionFabric(Session& session) : session_(session) {}

    uint32_t node() const override { return session_.node(); }
    Result<std::unique_ptr<SharedMemory>> create_memory(uint64_t size_bytes,
                                                        std::optional<uint32_t> id) override;
    Result<std::unique_ptr<SharedMemory>> connect_memory(uint32_t node, uint32_t id, uint64_t size_bytes,
                                                         io::Duration timeout, OnLost on_lost) override;
    Result<std::unique_ptr<Inbox>> create_inbox(std::optional<uint32_t> number, OnMessage on_message,
                                                OnGone on_gone) override;
    Result<std::unique_ptr<Outbox>> connect_inbox(uint32_t node, uint32_t number,
                                                  io::Duration timeout) override;

  private:
    Session& session_;
};

// A drive, borrowed shared; given back on destruction. SESSION must outlive it.
class SessionDrive final : public BorrowedDrive {
  public:
    // Errors: those of Device::borrow().
    static Result<std::unique_ptr<SessionDrive>> borrow(Session& session, uint64_t fdid,
                                                        io::Duration timeout);

    pci::Function& function() override { return *function_; }
    nvme::DmaAllocator& allocator() override { return *memory_; }
    uint32_t node() const override { return node_; }
    std::optional<Error> lost() const override;
    uint64_t loan() const { return function_->device().loan(); }

  private:
    SessionDrive() = default;

    std::unique_ptr<DeviceFunction> function_;
    std::optional<nvme::BorrowedMemory> memory_;
    uint32_t node_ = 0;
};

} // namespace lanepool::sharing
