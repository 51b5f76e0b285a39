// SPDX-License-Identifier: Apache-2.0
//
// What a shared drive's manager and clients need of the fabric and of the drive's loan. On hosts it is a
// lanepool::Session (session_fabric.h); tests put all of them into one process.
//
// Callbacks come on any thread, one at a time for each fabric; after an object's destructor has returned none
// of its callbacks comes any more.
#pragma once

#include "base/result.h"
#include "io/clock.h"
#include "nvme/dma_allocator.h"
#include "pci/function.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

namespace lanepool::sharing {

// Memory that two processes see. It stays mapped while this lives, also when the other side has gone.
class SharedMemory {
  public:
    virtual ~SharedMemory() = default;
    virtual std::span<std::byte> bytes() = 0;
    virtual uint32_t id() const = 0;
};

// Who has sent something; not his own words.
struct Sender {
    uint64_t id = 0; // of his connection; never used twice
    uint32_t node = 0;
    std::string host; // empty: not known
    std::string user;
};

class Inbox {
  public:
    virtual ~Inbox() = default;
    virtual uint32_t number() const = 0;
};

class Outbox {
  public:
    virtual ~Outbox() = default;
    // Errors: no_space (too much has not been taken), disconnected.
    virtual Result<> send(std::span<const std::byte> message) = 0;
};

class Fabric {
  public:
    using OnMessage = std::function<void(const Sender& sender, std::span<const std::byte> message)>;
    using OnGone = std::function<void(const Sender& sender)>;
    using OnLost = std::function<void(const Error& why)>;

    virtual ~Fabric() = default;
    virtual uint32_t node() const = 0;

    // Memory of this process that others can connect to, full of zeroes. Without ID one is chosen. Errors:
    // already_exists.
    virtual Result<std::unique_ptr<SharedMemory>> create_memory(uint64_t size_bytes,
                                                                std::optional<uint32_t> id) = 0;
    // Errors: not_found (there is none within TIMEOUT), unavailable, protocol (it is smaller).
    virtual Result<std::unique_ptr<SharedMemory>>
    connect_memory(uint32_t node, uint32_t id, uint64_t size_bytes, io::Duration timeout, OnLost on_lost) = 0;
    virtual Result<std::unique_ptr<Inbox>> create_inbox(std::optional<uint32_t> number, OnMessage on_message,
                                                        OnGone on_gone) = 0;
    virtual Result<std::unique_ptr<Outbox>> connect_inbox(uint32_t node, uint32_t number,
                                                          io::Duration timeout) = 0;
};

// The drive, borrowed beside others.
class BorrowedDrive {
  public:
    virtual ~BorrowedDrive() = default;
    // Registers and BAR0's memory. Nothing is mapped for DMA through it.
    virtual pci::Function& function() = 0;
    // Memory of this process that the drive reaches.
    virtual nvme::DmaAllocator& allocator() = 0;
    virtual uint32_t node() const = 0; // of the host in which it sits
    // Why the loan is over, if it is. Thread-safe.
    virtual std::optional<Error> lost() const = 0;
};

} // namespace lanepool::sharing
