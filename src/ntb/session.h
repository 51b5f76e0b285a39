// SPDX-License-Identifier: Apache-2.0
//
// A channel's relation to one peer: meeting it, hearing that it is there, records both ways, and starting
// again after whatever went wrong. Everything that goes wrong (a restart, silence, a link that failed, a peer
// that breaks the protocol) ends in the same way: a new pair of incarnations, both rings empty.
#pragma once

#include "io/clock.h"
#include "ntb/ring.h"
#include "ntb/transport.h"

#include <deque>
#include <functional>
#include <memory>
#include <vector>

namespace lanepool::ntb {

struct SessionOptions {
    io::Duration peer_timeout;
    size_t max_queued_records; // that found no room in the ring; more end the session
};

class Session {
  public:
    // Called from inside poll(), tick(), link_state() and send(); must not destroy the session.
    struct Events {
        std::function<void(bool up)> changed;
        // An error says that the peer broke the protocol, and ends the session.
        std::function<Result<>(std::vector<std::byte> record)> record;
    };
    // INCARNATION and its successors must not have been used by this host before. TRANSPORT and
    // CLOCK must outlive it.
    Session(Transport& transport, const io::Clock& clock, Partition peer, uint64_t incarnation,
            SessionOptions options, Events events);

    // Asks for a way to the peer.
    void connect();
    // Looks at what the peer has written. Returns whether there is more than one look's share.
    bool poll();
    // Once a heartbeat interval: says that we are here, looks, and decides whether the peer still is.
    void tick();
    // The switch says that the link to the peer is up or down.
    void link_state(bool link_up);

    bool up() const { return up_; }
    // Errors: unavailable (not up), no_space (the peer does not read).
    Result<> send(std::span<const std::byte> record);

  private:
    void connected(Result<std::unique_ptr<PeerLink>> link);
    void met(const MailboxView& view);
    void restart(std::string_view why);
    void report(std::string_view why);
    Result<> write_header(bool changes_session);
    Result<> flush();
    Result<bool> receive(const MailboxView& view);
    void broken(const Error& error);
    uint64_t ring_session(uint64_t writer, uint64_t reader) const {
        return writer ^ (reader << 1 | reader >> 63);
    }
    void reset_rings();

    Transport& transport_;
    const io::Clock& clock_;
    const Partition peer_;
    const SessionOptions options_;
    Events events_;

    uint64_t own_incarnation_;
    uint64_t peer_incarnation_ = 0; // 0: never heard of
    uint64_t peer_wake_ = 0;
    uint32_t peer_heartbeat_ = 0;
    io::TimePoint heard_{};
    bool up_ = false;

    std::unique_ptr<PeerLink> link_;
    bool connecting_ = false;
    bool connect_again_ = false;   // what is under way leads to an earlier incarnation
    io::TimePoint next_connect_{}; // not before
    io::Duration connect_pause_{}; // doubles with each failure
    io::TimePoint next_meeting_{}; // a peer that changes its incarnation all the time does not keep us busy
    io::TimePoint next_report_{};
    uint32_t own_heartbeat_ = 0;

    RingWriter writer_;
    RingReader reader_;
    uint64_t told_tail_ = 0;  // the tail that the peer knows
    uint64_t waked_tail_ = 0; // the tail at which it was last waked for it
    std::deque<std::vector<std::byte>> queue_;
};

} // namespace lanepool::ntb
