// SPDX-License-Identifier: Apache-2.0
//
// The commands that a server sends to its client (DMA_READ, DMA_WRITE): cuts transfers into messages, matches
// answers by message id, and gives up when none comes.
#pragma once

#include "base/address.h"
#include "io/event_loop.h"
#include "vfio_user/frame_reader.h"

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>

namespace lanepool::vfio_user {

class DmaRequests {
  public:
    using ReadAnswer = std::function<void(Result<std::vector<std::byte>>)>;
    using WriteAnswer = std::function<void(Result<>)>;
    using Send = std::function<void(std::vector<std::byte>)>;

    // At most MAX_CHUNK_BYTES go in one message. Each message must be answered within TIMEOUT.
    DmaRequests(io::EventLoop& loop, io::Duration timeout, uint32_t max_chunk_bytes, Send send)
        : loop_(loop), timeout_(timeout), max_chunk_bytes_(max_chunk_bytes), send_(std::move(send)) {}

    // An answer may be given before these return (no_space, out_of_range).
    void read(Iova address, size_t size_bytes, ReadAnswer answer);
    void write(Iova address, std::span<const std::byte> data, WriteAnswer answer);

    // Errors: protocol for an answer to nothing; the connection cannot be trusted after that.
    Result<> on_reply(const Message& message);
    // Answers everything with ERROR.
    void abandon(const Error& error);

    static constexpr size_t max_outstanding = 1024;
    static constexpr size_t max_transfer_bytes = 16 << 20;

  private:
    struct Transfer {
        std::vector<std::byte> data; // of a read
        size_t outstanding = 0;
        std::optional<Error> error;
        std::function<void(Transfer&)> done;
    };
    struct Outstanding {
        wire::Command command;
        wire::DmaAccess access;
        size_t offset_bytes; // in the transfer
        io::TimePoint deadline;
        std::shared_ptr<Transfer> transfer;
    };

    std::optional<Error> refusal(Iova address, size_t size_bytes) const;
    uint16_t next_id();
    void start(wire::Command command, Iova address, size_t size_bytes, std::span<const std::byte> data,
               std::shared_ptr<Transfer> transfer);
    static Result<> check(const Outstanding& expected, const Message& message);
    static void finish(Transfer& transfer, std::optional<Error> error);
    void arm_timer();
    void expire();

    io::EventLoop& loop_;
    io::Duration timeout_;
    uint32_t max_chunk_bytes_;
    Send send_;
    uint16_t last_id_ = 0;
    std::map<uint16_t, Outstanding> outstanding_;
    std::deque<std::pair<io::TimePoint, uint16_t>> deadlines_; // ascending; some may be answered already
    // Given up, but their answers may still come: until then the id is not used again.
    std::set<uint16_t> expired_;
    io::EventLoop::Registration timer_;
};

} // namespace lanepool::vfio_user
