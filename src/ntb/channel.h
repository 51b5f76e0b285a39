// SPDX-License-Identifier: Apache-2.0
//
// Requests and answers between the agents of two hosts, over rings in memory that each exports to the other;
// the switch's message registers are used to meet and to wake. Works while the control plane does not.
#pragma once

#include "base/result.h"
#include "io/event_loop.h"
#include "ntb/adapter.h"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace lanepool::ntb {

inline constexpr size_t max_channel_body_bytes = 8192;

struct ChannelOptions {
    io::Duration heartbeat_interval = std::chrono::milliseconds(250);
    // A peer that was alive and has not been heard of for this long is dead.
    io::Duration peer_timeout = std::chrono::milliseconds(1000);
    size_t max_outstanding_requests = 256; // a peer
};

// The answer of a request, given once, from the channel's loop thread or any other; dropping it answers
// `cancelled`.
class ChannelReply {
  public:
    using Answer = std::function<void(Result<std::vector<std::byte>>)>;
    ChannelReply(Answer answer) : answer_(std::move(answer)) {}
    ChannelReply(ChannelReply&&) noexcept = default;
    ChannelReply& operator=(ChannelReply&&) = delete;
    ~ChannelReply();
    void operator()(Result<std::vector<std::byte>> result);

  private:
    Answer answer_;
};

struct ChannelEvents {
    // A request of a peer's: KIND is the caller's numbering. Called on the loop's thread.
    std::function<void(Partition from, uint16_t kind, std::vector<std::byte> body, ChannelReply reply)>
        request;
    // A peer was heard of for the first time (or again, or is another incarnation: then first false, then
    // true), or has died. Called on the loop's thread.
    std::function<void(Partition peer, bool alive)> peer_changed;
};

// One for each host's agent. request() may be called from any thread; everything else on the loop's thread.
class Channel {
  public:
    static Result<std::unique_ptr<Channel>> create(io::EventLoop& loop, Adapter& adapter,
                                                   ChannelEvents events, ChannelOptions options = {});
    ~Channel(); // outstanding requests are answered `cancelled` before it returns

    // Feed AdapterEvents::message and link_changed here (from any thread).
    void adapter_message(Partition from, uint32_t message);
    void link_changed();

    bool alive(Partition peer) const;           // of the own partition: true
    std::vector<Partition> alive_peers() const; // without the own one

    // Sends a request; one to the own partition is served by the own ChannelEvents::request, as a peer's
    // would be; ANSWER is called once, on the loop's thread: with the peer's answer or error, `timeout`,
    // `disconnected` (the peer died meanwhile) or `unavailable` (it is not alive).
    void request(Partition peer, uint16_t kind, std::span<const std::byte> body, io::Duration timeout,
                 std::function<void(Result<std::vector<std::byte>>)> answer);

  private:
    class Impl;
    explicit Channel(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

} // namespace lanepool::ntb
