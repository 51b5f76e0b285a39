// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "nvme/io_commands.h"
#include "nvme/queue_pair.h"
#include "share/gate.h"
#include "share/membership.h"
#include "share/shared_drive.h"

#include <deque>
#include <memory>
#include <vector>

namespace lanepool::sharing {

// What is behind a SharedDrive: its commands, which wait here until they may go, and are kept until they are
// answered. A command that was under way when the queue pair broke goes again, in its old place.
class DriveClient {
  public:
    // OWNER is kept until this has gone: what FABRIC and DRIVE are of.
    static Result<std::unique_ptr<DriveClient>> open(Fabric& fabric, BorrowedDrive& drive, uint64_t fdid,
                                                     const io::Clock& clock, SharedDriveOptions options,
                                                     std::shared_ptr<void> owner);
    DriveClient(const DriveClient&) = delete;
    DriveClient& operator=(const DriveClient&) = delete;
    ~DriveClient();

    const nvme::NamespaceInfo& part() const { return part_; } // as the program sees it: blocks from 0 on
    bool read_only() const { return read_only_; }
    uint16_t weight() const { return weight_; }
    uint64_t rejoined() const { return rejoined_; }
    Result<DriveBuffer> allocate(uint64_t size_bytes) {
        return DriveBuffer::create(drive_.allocator(), size_bytes, page_bytes_, "lanepool-shared-data");
    }

    Result<> read(const SharedDrive::Extent& extent, DriveBuffer& buffer, SharedDrive::Done done);
    Result<> write(const SharedDrive::Extent& extent, const DriveBuffer& buffer, SharedDrive::Done done);
    Result<> flush(SharedDrive::Done done);
    Result<uint32_t> poll();
    size_t outstanding() const { return outstanding_; }
    // Blocking, over a buffer of this object's; one of READ_TO and WRITE_FROM is empty.
    Result<> copy_blocks(uint64_t block, std::span<std::byte> read_to, std::span<const std::byte> write_from);
    Result<> flush_blocks();
    Result<> wait_for(const std::function<bool()>& done);
    Result<> close();

  private:
    struct Pending {
        nvme::Command command;
        uint64_t sequence = 0;
        uint64_t units = 0;
        SharedDrive::Done done;
        bool under_way = false;
    };

    DriveClient(Fabric& fabric, BorrowedDrive& drive, const io::Clock& clock, SharedDriveOptions options,
                std::shared_ptr<void> owner)
        : owner_(std::move(owner)), fabric_(fabric), drive_(drive), clock_(clock),
          options_(std::move(options)) {}
    Result<> make_queue_memory();
    Result<> join(uint64_t fdid);
    Result<> add(nvme::Command command, uint64_t units, SharedDrive::Done done);
    void keep_membership(io::TimePoint now);
    void take_queue(io::TimePoint now);
    Result<nvme::NamespaceInfo> part_of(const Joined& joined) const;
    Result<> healthy();
    void lose_queue(io::TimePoint now);
    void submit_waiting(io::TimePoint now);
    void answered(uint16_t index, const nvme::Outcome& outcome);
    void finish(uint16_t index, Result<> result);
    void break_with(Error reason);
    void answer_all(const Error& reason);
    void show_counters();

    std::shared_ptr<void> owner_;
    Fabric& fabric_;
    BorrowedDrive& drive_;
    const io::Clock& clock_;
    SharedDriveOptions options_;
    std::unique_ptr<Membership> membership_;
    uint64_t page_bytes_ = 0;
    nvme::NamespaceInfo part_;
    uint64_t first_block_ = 0; // of the namespace
    bool read_only_ = false;
    uint16_t weight_ = 1;
    uint64_t rejoined_ = 0;
    bool opened_ = false;
    std::optional<Error> broken_;

    nvme::DmaMemory submission_;
    nvme::DmaMemory completion_;
    nvme::Doorbells doorbells_;
    DriveBuffer bounce_; // for blocking calls
    std::vector<Pending> pending_;
    std::vector<uint16_t> free_;
    std::deque<uint16_t> waiting_; // by their sequence
    uint64_t sequence_ = 0;
    size_t outstanding_ = 0;
    uint32_t called_back_ = 0;

    Gate gate_;
    uint64_t seen_heartbeat_ = 0;
    uint64_t submitted_ = 0; // units
    uint64_t completed_ = 0;
    uint64_t held_ = 0;
    io::TimePoint next_loan_look_;
    io::TimePoint apart_since_;
    std::unique_ptr<nvme::QueuePair> queue_; // last: its end answers commands
};

} // namespace lanepool::sharing
