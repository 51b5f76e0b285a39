// SPDX-License-Identifier: Apache-2.0
#include "application/connection.h"

#include <utility>

namespace lanepool::application {

using namespace std::chrono_literals;

namespace {
constexpr auto answer_timeout = 2s;
// How soon one asks again for what is not there yet.
constexpr auto retry_interval = 20ms;
constexpr size_t max_asking = 32;
} // namespace

// ---- All of them

std::shared_ptr<Connection> Connections::open(Wish wish, Opened opened, Lost lost) {
    const uint64_t id = next_id_++;
    auto connection =
        std::make_shared<Connection>(*this, id, std::move(wish), std::move(opened), std::move(lost));
    open_.emplace(id, connection);
    connection->ask();
    return connection;
}

void Connections::answered() {
    --asking_;
    while (asking_ < max_asking && !queue_.empty()) {
        const auto next = queue_.front().lock();
        queue_.pop_front();
        if (next && next->phase_ == Connection::Phase::waiting) next->ask();
    }
}

void Connections::gone(ntb::Partition from, uint64_t id) {
    const auto found = open_.find(id);
    if (found == open_.end() || found->second->wish_.peer != from) return;
    const auto connection = found->second;
    connection->lose("what it led to has been removed");
}

void Connections::peer_lost(ntb::Partition peer) {
    for (const auto& [id, connection] : std::map(open_))
        if (connection->wish_.peer == peer) connection->lose("its host does not answer any more");
}

// ---- One of them: asking

Connection::Connection(Connections& owner, uint64_t id, Connections::Wish wish, Connections::Opened opened,
                       Connections::Lost lost)
    : owner_(owner), alive_(owner.fabric_.alive), id_(id), wish_(std::move(wish)),
      deadline_(owner.fabric_.loop.clock().now() + wish_.timeout), opened_(std::move(opened)),
      lost_(std::move(lost)) {}

void Connection::ask() {
    if (owner_.asking_ >= max_asking) {
        phase_ = Phase::waiting;
        owner_.queue_.push_back(weak_from_this());
        return;
    }
    ++owner_.asking_;
    phase_ = Phase::asking;
    const auto body = encode(Connect{id_, wish_.number, wish_.data, wish_.user});
    // The answer is waited for also when nobody wants it any more: what was connected is disconnected.
    owner_.fabric_.channel.request(wish_.peer, static_cast<uint16_t>(wish_.kind), body, answer_timeout,
                                   [self = shared_from_this()](auto answer) {
                                       if (self->alive_.expired()) return;
                                       self->answered(std::move(answer));
                                       self->owner_.answered();
                                   });
}

void Connection::answered(Result<std::vector<std::byte>> answer) {
    if (phase_ != Phase::asking) { // closed meanwhile
        if (answer || answer.error().code() == Errc::timeout) tell_peer();
        return;
    }
    if (!answer) return refused(answer.error());
    Result<std::vector<ntb::Target>> targets = std::vector<ntb::Target>{};
    if (wish_.kind == SegmentRequest::connect_segment) {
        const auto shown = decode_shown(*answer);
        if (shown)
            targets->push_back({wish_.peer, shown->address, shown->size_bytes});
        else
            targets = tl::unexpected(shown.error());
    } else {
        const auto shown = decode_shown_interrupt(*answer);
        if (!shown)
            targets = tl::unexpected(shown.error());
        else if (wish_.data != (shown->ring.size_bytes != 0))
            targets = fail(Errc::protocol, "the interrupt is not of the kind that was asked for");
        else
            targets->push_back({wish_.peer, shown->event, 4});
        if (targets && wish_.data)
            targets->push_back({wish_.peer, shown->ring.address, shown->ring.size_bytes});
    }
    if (!targets) {
        tell_peer();
        return give_up(targets.error());
    }
    open_windows(std::move(*targets));
}

void Connection::refused(const Error& why) {
    if (why.code() == Errc::timeout) tell_peer();
    if (why.code() == Errc::disconnected || why.code() == Errc::timeout)
        return give_up(Error(Errc::unavailable, why.message()));
    if (why.code() != Errc::not_found || owner_.fabric_.loop.clock().now() + retry_interval > deadline_)
        return give_up(why);
    phase_ = Phase::waiting;
    retry_ = owner_.fabric_.loop.after(retry_interval, [this] { ask(); });
}

// ---- Windows

void Connection::open_windows(std::vector<ntb::Target> targets) {
    phase_ = Phase::opening;
    owner_.fabric_.errands.run(
        [&adapter = owner_.fabric_.adapter, targets = std::move(targets), kind = wish_.kind] {
            return open_windows(adapter, targets, kind);
        },
        [self = shared_from_this()](Result<Windows> opened) { self->windows_opened(std::move(opened)); });
}

Result<Connection::Windows> Connection::open_windows(ntb::Adapter& adapter,
                                                     const std::vector<ntb::Target>& targets,
                                                     SegmentRequest kind) {
    Windows opened;
    opened.windows = TRY(adapter.open_windows(targets));
    opened.way.target = targets.front();
    if (kind == SegmentRequest::connect_interrupt)
        opened.way.event = share(TRY(opened.windows.front().event(0)));
    if (kind == SegmentRequest::connect_segment || targets.size() > 1)
        opened.way.extents = TRY(opened.windows.back().memory(0, targets.back().size_bytes));
    const auto whole = [&] {
        return opened.way.extents.size() == 1 && opened.way.extents[0].offset_bytes == 0 &&
               opened.way.extents[0].memory.offset_bytes == 0 &&
               opened.way.extents[0].memory.size_bytes == targets.back().size_bytes;
    };
    if (targets.size() > 1 && !whole())
        return fail(Errc::not_supported, "the messages' memory cannot be mapped from here");
    return opened;
}

void Connection::windows_opened(Result<Windows> opened) {
    if (phase_ == Phase::ended || lost_reason_ || !opened) {
        if (opened) owner_.fabric_.errands.dispose(std::move(opened->windows));
        if (phase_ == Phase::ended) return; // whoever closed it has told the peer
        if (lost_reason_) return give_up(Error(Errc::not_found, *lost_reason_));
        tell_peer();
        return give_up(opened.error());
    }
    phase_ = Phase::open;
    windows_ = std::move(opened->windows);
    std::exchange(opened_, nullptr)(std::move(opened->way));
}

// ---- Its end

void Connection::tell_peer(std::function<void()> done) {
    owner_.notices_.add(wish_.peer, SegmentRequest::disconnect, id_, std::move(done));
}

void Connection::end() {
    phase_ = Phase::ended;
    retry_.reset();
    owner_.open_.erase(id_);
}

void Connection::give_up(Error why) {
    const auto self = shared_from_this();
    end();
    if (const auto opened = std::exchange(opened_, nullptr)) opened(tl::unexpected(std::move(why)));
}

void Connection::lose(const std::string& reason) {
    const auto self = shared_from_this();
    switch (phase_) {
    case Phase::asking: // the request's answer says it, too, if the host has died
    case Phase::ended:
        return;
    case Phase::waiting:
        return give_up(Error(Errc::unavailable, reason));
    case Phase::opening:
        lost_reason_ = reason;
        return;
    case Phase::open:
        break;
    }
    owner_.fabric_.errands.dispose(std::move(windows_));
    end();
    if (const auto lost = std::exchange(lost_, nullptr)) lost(reason);
}

void Connection::close(std::function<void()> done) {
    const auto self = shared_from_this();
    const auto phase = phase_;
    opened_ = nullptr;
    lost_ = nullptr;
    if (phase == Phase::ended) return done();
    end();
    if (phase == Phase::asking) return done(); // its answer will be looked at
    if (phase == Phase::waiting) return done();
    // Not before the windows are closed: until then this host reaches what is there.
    owner_.fabric_.errands.run(
        [windows = std::make_shared<std::vector<ntb::Window>>(std::move(windows_))] {
            windows->clear();
            return 0;
        },
        [self, done = std::move(done)](int) { self->tell_peer(done); });
}

} // namespace lanepool::application
