// SPDX-License-Identifier: Apache-2.0
//
// What a Channel does, over any transport.
#pragma once

#include "ntb/channel.h"
#include "ntb/channel_message.h"
#include "ntb/loop_gate.h"
#include "ntb/session.h"

#include <array>
#include <atomic>
#include <map>
#include <mutex>

namespace lanepool::ntb {

// Construct and destroy on the loop's thread, or while it does not run.
class ChannelCore {
  public:
    // INCARNATION: a random number.
    static Result<std::unique_ptr<ChannelCore>> create(io::EventLoop& loop,
                                                       std::unique_ptr<Transport> transport,
                                                       ChannelEvents events, ChannelOptions options,
                                                       uint64_t incarnation);
    ~ChannelCore();

    // As Channel's.
    void look_at(Partition peer); // from any thread
    void link_changed();          // from any thread
    bool alive(Partition peer) const;
    std::vector<Partition> alive_peers() const;
    using Answer = std::function<void(Result<std::vector<std::byte>>)>;
    void request(Partition peer, uint16_t kind, std::span<const std::byte> body, io::Duration timeout,
                 Answer answer);

  private:
    struct Submitted {
        Partition peer;
        uint16_t kind;
        std::vector<std::byte> body;
        io::TimePoint deadline;
        Answer answer;
    };
    struct Pending {
        Partition peer;
        Answer answer;
        io::EventLoop::Registration timer;
    };
    struct Peer {
        std::unique_ptr<Session> session;
        size_t outstanding = 0;  // our requests
        size_t serving = 0;      // its requests that are not answered yet
        uint64_t generation = 0; // of sessions: an answer to an earlier one's request goes nowhere
    };

    ChannelCore(io::EventLoop& loop, std::unique_ptr<Transport> transport, ChannelEvents events,
                ChannelOptions options)
        : loop_(loop), events_(std::move(events)), options_(options), gate_(std::make_shared<LoopGate>(loop)),
          own_(transport->own()), transport_(std::move(transport)) {}
    Result<> start(uint64_t incarnation);
    void look();
    void tick();
    void submit();
    void submit(Submitted request);
    void finish(std::map<uint64_t, Pending>::iterator request, Result<std::vector<std::byte>> result);
    void changed(Partition peer, bool up);
    Result<> received(Partition peer, std::span<const std::byte> record);
    void serve(Partition peer, ChannelMessage message);
    void reply(Partition peer, uint64_t generation, uint64_t id,
               const Result<std::vector<std::byte>>& result);
    void answered_here(uint64_t id, const Result<std::vector<std::byte>>& result);
    Peer* find(Partition peer);

    io::EventLoop& loop_;
    ChannelEvents events_;
    const ChannelOptions options_;
    std::shared_ptr<LoopGate> gate_;
    const Partition own_;
    std::array<Peer, max_partitions> peers_;
    std::map<uint64_t, Pending> pending_; // by id
    uint64_t next_id_ = 1;
    std::atomic<uint64_t> to_look_at_{0}; // partitions that have sent a message, by bit
    std::atomic<bool> links_to_check_{false};
    std::mutex submitted_mutex_;
    std::vector<Submitted> submitted_;
    io::EventLoop::Registration wake_watch_;
    io::EventLoop::Registration ticks_;
    std::unique_ptr<Transport> transport_; // destroyed first: it calls back into sessions
};

} // namespace lanepool::ntb
