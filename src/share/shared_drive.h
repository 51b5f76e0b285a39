// SPDX-License-Identifier: Apache-2.0
//
// An NVMe drive that programs on several hosts use at the same time, each with a queue pair of its own
// (`lanepool nvme share` runs the manager that gives them; docs/shared-drives.md).
//
//     auto session = lanepool::Session::open();
//     auto drive = lanepool::SharedDrive::open(*session, fdid);
//     auto buffer = drive->allocate(4096);
//     drive->read({.block = 0, .blocks = 8}, *buffer, [](lanepool::Result<> done) { ... });
//     while (drive->outstanding() > 0) drive->poll();
//
// The data goes from the drive's memory to this process's and back; no manager and no agent is on its way.
// What the drive is given here is fairly shared: commands that others have a right to go before wait in this
// object.
//
// When the manager dies, its clients go on without sharing fairly; when a new one has started, this object
// joins it by itself, and submits again what had no answer yet. So a read or write that was under way may be
// done twice; that is seen only by who writes the same blocks from elsewhere meanwhile.
//
// Clients of one drive trust each other: the drive cannot tell their memory apart, and only this library
// keeps a client to its part of the drive.
#pragma once

#include "base/result.h"
#include "io/clock.h"
#include "nvme/dma_memory.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>

namespace lanepool {

class Session;
namespace sharing {
class Fabric;
class BorrowedDrive;
class DriveClient;
} // namespace sharing

// Memory for data: of this process, and reached by the drive. Keep it while a command uses it.
using DriveBuffer = nvme::DmaMemory;

struct SharedDriveOptions {
    uint16_t depth = 64; // commands under way at a time, 1 and up to what the drive can
    // How long open() waits for the loan, and then for the manager.
    io::Duration open_timeout = std::chrono::seconds(10);
    // How long a command may take at the drive.
    io::Duration command_timeout = std::chrono::seconds(30);
    // How long commands wait for a new manager when the drive was reset; then they are answered
    // `unavailable`.
    io::Duration manager_timeout = std::chrono::seconds(30);
    // Where the manager runs; without: on the host of the drive.
    std::optional<uint32_t> manager_node = {};
};

// All methods are for one thread at a time; callbacks come from poll(), the blocking calls and close().
class SharedDrive {
  public:
    // BLOCKS from BLOCK on of this client's part, to or from OFFSET_BYTES (a multiple of four) of a buffer.
    struct Extent {
        uint64_t block = 0;
        uint32_t blocks = 0;
        uint64_t offset_bytes = 0;
    };
    using Done = std::function<void(Result<>)>; // may start commands, but not poll() or block

    // Borrows the device `shared` and joins its manager. SESSION must outlive the drive. Errors: those of
    // Device::borrow(), not_found (the drive has no manager), permission_denied (its rules), no_space.
    static Result<SharedDrive> open(Session& session, uint64_t fdid, SharedDriveOptions options = {});
    // The same with a fabric and a loan of the caller's, for tests. CLOCK too must outlive the drive.
    static Result<SharedDrive> open(sharing::Fabric& fabric, sharing::BorrowedDrive& drive, uint64_t fdid,
                                    const io::Clock& clock, SharedDriveOptions options = {});
    SharedDrive(SharedDrive&&) noexcept;
    SharedDrive& operator=(SharedDrive&&) noexcept;
    // close()
    ~SharedDrive();

    uint64_t blocks() const; // of this client's part
    uint32_t block_bytes() const;
    bool read_only() const;
    uint16_t weight() const;
    uint64_t max_transfer_bytes() const; // of one command

    // Errors: no_space, disconnected.
    Result<DriveBuffer> allocate(uint64_t size_bytes);

    // Each starts one command; DONE is called once, with `io` and the drive's words when it has refused.
    // Errors: busy (DEPTH commands are under way: poll()), out_of_range (outside of the part, of the buffer),
    // invalid_argument (no blocks, or more than one command can), permission_denied (a write to a part that
    // is read-only), and why the drive is of no use any more.
    Result<> read(const Extent& extent, DriveBuffer& buffer, Done done);
    Result<> write(const Extent& extent, const DriveBuffer& buffer, Done done);
    Result<> flush(Done done);
    // Gives the drive what it may have by now, and calls back what it has answered: how many. Errors: why the
    // drive is of no use any more (disconnected: the loan is over, the manager has ended;
    // failed_precondition: a new manager gives another part of the drive): then everything has been answered.
    Result<uint32_t> poll();
    size_t outstanding() const; // commands not called back yet

    // Blocking, any number of whole blocks, through a buffer of this object's. Callbacks of other commands
    // come meanwhile. Errors: as above, timeout.
    Result<> read_blocks(uint64_t block, std::span<std::byte> data);
    Result<> write_blocks(uint64_t block, std::span<const std::byte> data);
    Result<> flush_blocks();

    // Answers what is under way `cancelled`, and leaves. Errors: the manager did not confirm.
    Result<> close();

    // How often a new manager was joined, for people.
    uint64_t rejoined() const;

  private:
    explicit SharedDrive(std::unique_ptr<sharing::DriveClient> client);
    std::unique_ptr<sharing::DriveClient> client_;
};

} // namespace lanepool
