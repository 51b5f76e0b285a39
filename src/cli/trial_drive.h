// SPDX-License-Identifier: Apache-2.0
//
// A loan that a trial makes through its host's agent, and an NVMe drive that it drives then.
#pragma once

#include "lanepool/device_function.h"
#include "nvme/borrowed/borrowed_memory.h"
#include "nvme/driver.h"
#include "qualify/trial_bench.h"

#include <optional>

namespace lanepool::cli {

class SessionDrive final : public qualify::TrialDrive {
  public:
    // Takes the drive over. Both must outlive it. Errors: those of the driver; not_supported (no namespace
    // with plain blocks).
    static Result<std::unique_ptr<SessionDrive>> create(Session& session, DeviceFunction& function);

    uint64_t blocks() const override { return namespace_.blocks; }
    uint32_t block_bytes() const override { return namespace_.block_bytes; }
    uint32_t transfer_blocks() const override;
    Result<> write(uint64_t first_block, std::span<const std::byte> data) override;
    Result<> read(uint64_t first_block, std::span<std::byte> data) override;
    Result<std::span<std::byte>> revoked_memory() override;
    Result<> read_to(qualify::Stray where, uint64_t block) override;
    Result<> write_from(qualify::Stray where, uint64_t block) override;

  private:
    SessionDrive(Session& session, DeviceFunction& function) : session_(session), function_(function) {}
    Result<uint64_t> address_of(qualify::Stray where);
    Result<> execute_at(uint64_t address, nvme::Command command, const char* what);

    Session& session_;
    DeviceFunction& function_;
    std::unique_ptr<nvme::Driver> driver_;
    nvme::QueuePair* queue_ = nullptr;
    nvme::NamespaceInfo namespace_;
    nvme::DmaMemory buffer_; // gone before the driver
    std::optional<Segment> revoked_;
    uint64_t revoked_address_ = 0;
};

class SessionLoan final : public qualify::TrialLoan {
  public:
    static Result<std::unique_ptr<SessionLoan>> borrow(Session& session, uint64_t fdid);
    Result<> give_back() override;
    Result<qualify::TrialDrive*> drive() override;
    uint32_t class_code() const { return function_->device().identity().class_code; }

  private:
    SessionLoan(Session& session, std::unique_ptr<DeviceFunction> function)
        : session_(session), function_(std::move(function)) {}
    Session& session_;
    std::unique_ptr<DeviceFunction> function_;
    std::unique_ptr<SessionDrive> drive_; // gone before the function
};

} // namespace lanepool::cli
