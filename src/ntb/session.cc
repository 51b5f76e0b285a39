// SPDX-License-Identifier: Apache-2.0
#include "ntb/session.h"

#include <algorithm>
#include <spdlog/spdlog.h>

namespace lanepool::ntb {

using mailbox::Field;
using namespace std::chrono_literals;

namespace {
constexpr io::Duration shortest_connect_pause = 100ms;
constexpr io::Duration longest_connect_pause = 4s;
constexpr io::Duration meeting_pause = 20ms;
constexpr io::Duration report_pause = 1s;
// Of one peer in one look, so that a busy one leaves room for others.
constexpr int records_a_look = 64;
// Of heartbeats: how often a peer that was never heard of is told about us again.
constexpr uint32_t stranger_interval = 16;

uint32_t lower_half(uint64_t count) { return static_cast<uint32_t>(count); }
} // namespace

Session::Session(Transport& transport, const io::Clock& clock, Partition peer, uint64_t incarnation,
                 SessionOptions options, Events events)
    : transport_(transport), clock_(clock), peer_(peer), options_(options), events_(std::move(events)),
      own_incarnation_(std::max<uint64_t>(incarnation, 1)) {}

// ---- The way to the peer

void Session::connect() {
    if (connecting_) {
        connect_again_ = true;
        return;
    }
    connecting_ = true;
    transport_.connect(peer_, peer_wake_,
                       [this](Result<std::unique_ptr<PeerLink>> link) { connected(std::move(link)); });
}

void Session::connected(Result<std::unique_ptr<PeerLink>> link) {
    connecting_ = false;
    if (std::exchange(connect_again_, false)) return connect();
    if (!link) {
        spdlog::debug("channel to partition {}: {}", peer_.value, link.error().message());
        connect_pause_ = std::clamp(2 * connect_pause_, shortest_connect_pause, longest_connect_pause);
        next_connect_ = clock_.now() + connect_pause_;
        return;
    }
    connect_pause_ = {};
    link_ = std::move(*link);
    if (auto written = write_header(true); !written) return broken(written.error());
    link_->wake();
    if (poll()) signal(transport_.wake_eventfd()); // the peer may have been waiting for us
}

void Session::link_state(bool link_up) {
    if (!link_up) {
        const bool was_there = link_ != nullptr;
        link_.reset();
        if (was_there) restart("its link is down");
    } else if (!link_ && !connecting_) {
        connect_pause_ = {};
        connect();
    }
}

// Repeated with every heartbeat: a word that a failing link has lost is there after the next.
Result<> Session::write_header(bool changes_session) {
    if (changes_session) TRY(mailbox::store(*link_, Field::seal, 0));
    TRY(mailbox::store(*link_, Field::head, lower_half(writer_.head())));
    TRY(mailbox::store(*link_, Field::tail, lower_half(reader_.tail())));
    TRY(mailbox::store(*link_, Field::heartbeat, own_heartbeat_));
    return mailbox::store(*link_, {own_incarnation_, peer_incarnation_, transport_.wake_address()});
}

// ---- Beginnings and ends

void Session::reset_rings() {
    writer_.reset(ring_session(own_incarnation_, peer_incarnation_));
    reader_.reset(ring_session(peer_incarnation_, own_incarnation_));
    told_tail_ = waked_tail_ = reader_.tail();
    queue_.clear();
}

// The peer is another incarnation than the one that we knew: its memory may be another, too.
void Session::met(const MailboxView& view) {
    const bool was_up = std::exchange(up_, false);
    peer_incarnation_ = view.incarnation;
    peer_wake_ = view.wake;
    peer_heartbeat_ = view.heartbeat;
    heard_ = clock_.now();
    next_meeting_ = heard_ + meeting_pause;
    reset_rings();
    link_.reset();
    connect_pause_ = {};
    connect();
    if (was_up) events_.changed(false);
}

void Session::restart(std::string_view why) {
    const bool was_up = std::exchange(up_, false);
    if (was_up) report(why);
    ++own_incarnation_;
    if (own_incarnation_ == 0) own_incarnation_ = 1;
    reset_rings();
    if (link_ && !write_header(true)) link_.reset();
    if (link_) link_->wake();
    if (was_up) events_.changed(false);
}

// A peer can end its session as often as it likes, but not fill our log with it.
void Session::report(std::string_view why) {
    const auto now = clock_.now();
    const auto level = now < next_report_ ? spdlog::level::debug : spdlog::level::info;
    if (now >= next_report_) next_report_ = now + report_pause;
    spdlog::log(level, "channel to partition {} is down: {}", peer_.value, why);
}

void Session::broken(const Error& error) {
    if (error.code() != Errc::protocol) link_.reset();
    restart(error.message());
}

// ---- Looking and being seen

bool Session::poll() {
    const auto now = clock_.now();
    const auto view = read_mailbox(transport_.area(peer_));
    if (!view) return false;
    if (view->incarnation != peer_incarnation_) {
        if (now >= next_meeting_) met(*view);
        return false;
    }
    if (view->heartbeat != peer_heartbeat_) {
        peer_heartbeat_ = view->heartbeat;
        heard_ = now;
    }
    if (!link_ || view->acknowledged != own_incarnation_) return false;
    if (!up_) {
        up_ = true;
        heard_ = now;
        events_.changed(true);
    }
    const auto more = receive(*view);
    if (!more) broken(more.error());
    return more && *more;
}

void Session::tick() {
    const auto now = clock_.now();
    ++own_heartbeat_;
    if (link_) {
        const bool stranger = peer_incarnation_ == 0 && own_heartbeat_ % stranger_interval != 0;
        if (const auto written = stranger ? Result<>{} : write_header(false); !written)
            broken(written.error());
    } else if (!connecting_ && now >= next_connect_) {
        connect();
    }
    if (poll()) signal(transport_.wake_eventfd());
    if (up_ && now - heard_ > options_.peer_timeout)
        restart(fmt::format("not heard of for {} ms",
                            std::chrono::duration_cast<std::chrono::milliseconds>(now - heard_).count()));
}

// ---- Records

Result<bool> Session::receive(const MailboxView& view) {
    TRY(writer_.consumed(view.tail));
    const auto ring = transport_.area(peer_).subspan(mailbox::ring_offset, mailbox::ring_bytes);
    for (int i = 0; i < records_a_look; ++i) {
        auto record = TRY(reader_.read(ring, view.head));
        if (!record) break;
        TRY(events_.record(std::move(*record)));
        if (!up_) return false; // sending an answer found out that the peer has gone
    }
    const uint64_t tail = reader_.tail();
    if (tail != told_tail_) {
        TRY(mailbox::store(*link_, Field::tail, lower_half(tail)));
        told_tail_ = tail;
    }
    // A writer waits only for a ring that is nearly full, so it is enough to wake it a few times a round.
    if (tail - waked_tail_ >= mailbox::ring_bytes / 4) {
        waked_tail_ = tail;
        link_->wake();
    }
    TRY(flush());
    return lower_half(tail) != view.head;
}

Result<> Session::flush() {
    bool written = false;
    while (!queue_.empty() && TRY(writer_.write(*link_, queue_.front()))) {
        queue_.pop_front();
        written = true;
    }
    if (!written) return {};
    TRY(mailbox::store(*link_, Field::head, lower_half(writer_.head())));
    link_->wake();
    return {};
}

Result<> Session::send(std::span<const std::byte> record) {
    if (!up_) return fail(Errc::unavailable, "partition {} is not there", peer_.value);
    if (queue_.size() >= options_.max_queued_records) {
        restart("it does not read what it is sent");
        return fail(Errc::no_space, "partition {} does not read what it is sent: {} messages are waiting",
                    peer_.value, options_.max_queued_records);
    }
    queue_.emplace_back(record.begin(), record.end());
    auto flushed = flush();
    if (!flushed) broken(flushed.error());
    return flushed;
}

} // namespace lanepool::ntb
