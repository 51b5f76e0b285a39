// SPDX-License-Identifier: Apache-2.0
#include "ntb/channel_core.h"

#include <spdlog/spdlog.h>
#include <sys/epoll.h>

namespace lanepool::ntb {

// ---- Life

Result<std::unique_ptr<ChannelCore>> ChannelCore::create(io::EventLoop& loop,
                                                         std::unique_ptr<Transport> transport,
                                                         ChannelEvents events, ChannelOptions options,
                                                         uint64_t incarnation) {
    if (options.heartbeat_interval <= io::Duration(0) || options.peer_timeout <= options.heartbeat_interval ||
        options.max_outstanding_requests == 0)
        return fail(Errc::invalid_argument, "a channel's peer_timeout must be longer than its "
                                            "heartbeat_interval, and it must allow requests");
    std::unique_ptr<ChannelCore> self(
        new ChannelCore(loop, std::move(transport), std::move(events), options));
    TRY(self->start(incarnation));
    return self;
}

Result<> ChannelCore::start(uint64_t incarnation) {
    wake_watch_ = TRY(loop_.watch(transport_->wake_eventfd().get(), EPOLLIN, [this](uint32_t) { look(); }));
    ticks_ = loop_.every(options_.heartbeat_interval, [this] { tick(); });
    for (const Partition peer : transport_->peers()) {
        Session::Events events;
        events.changed = [this, peer](bool up) { changed(peer, up); };
        events.record = [this, peer](std::vector<std::byte> record) { return received(peer, record); };
        // Requests and answers: each side's limit of them, and the refusals of what is beyond.
        const SessionOptions options{options_.peer_timeout, 4 * options_.max_outstanding_requests};
        auto& session = peers_[peer.value].session;
        session = std::make_unique<Session>(*transport_, loop_.clock(), peer, incarnation, options,
                                            std::move(events));
        session->connect();
    }
    return {};
}

ChannelCore::~ChannelCore() {
    gate_->close();
    transport_.reset();
    std::vector<Submitted> submitted;
    {
        const std::lock_guard lock(submitted_mutex_);
        submitted.swap(submitted_);
    }
    const auto cancelled = [] { return fail(Errc::cancelled, "the channel was closed"); };
    for (auto& request : submitted)
        request.answer(cancelled());
    while (!pending_.empty())
        finish(pending_.begin(), cancelled());
}

// ---- Peers

ChannelCore::Peer* ChannelCore::find(Partition peer) {
    if (peer.value >= peers_.size() || !peers_[peer.value].session) return nullptr;
    return &peers_[peer.value];
}

void ChannelCore::look() {
    drain(transport_->wake_eventfd());
    bool more = false;
    for (auto& peer : peers_)
        if (peer.session) more |= peer.session->poll();
    if (more) signal(transport_->wake_eventfd());
}

void ChannelCore::tick() {
    for (auto& peer : peers_)
        if (peer.session) peer.session->tick();
}

void ChannelCore::look_at(Partition peer) {
    if (peer.value >= max_partitions) return;
    // One look for any number of messages.
    if (to_look_at_.fetch_or(uint64_t{1} << peer.value) != 0) return;
    gate_->post([this] {
        const uint64_t set = to_look_at_.exchange(0);
        for (size_t i = 0; i < peers_.size(); ++i)
            if ((set >> i & 1) != 0 && peers_[i].session && peers_[i].session->poll())
                signal(transport_->wake_eventfd());
    });
}

void ChannelCore::link_changed() {
    if (links_to_check_.exchange(true)) return;
    gate_->post([this] {
        links_to_check_ = false;
        transport_->check_links([this](Partition partition, bool up) {
            if (auto* peer = find(partition)) peer->session->link_state(up);
        });
    });
}

bool ChannelCore::alive(Partition peer) const {
    if (peer == own_) return true;
    return peer.value < peers_.size() && peers_[peer.value].session && peers_[peer.value].session->up();
}

std::vector<Partition> ChannelCore::alive_peers() const {
    std::vector<Partition> alive_ones;
    for (unsigned p = 0; p < max_partitions; ++p)
        if (const Partition peer{static_cast<uint8_t>(p)}; peer != own_ && alive(peer))
            alive_ones.push_back(peer);
    return alive_ones;
}

void ChannelCore::changed(Partition partition, bool up) {
    auto& peer = peers_[partition.value];
    ++peer.generation;
    peer.serving = 0;
    if (!up)
        for (auto request = pending_.begin(); request != pending_.end();) {
            const auto next = std::next(request);
            if (request->second.peer == partition)
                finish(request,
                       fail(Errc::disconnected, "partition {} died before it answered", partition.value));
            request = next;
        }
    if (events_.peer_changed) events_.peer_changed(partition, up);
}

// ---- Our requests

void ChannelCore::request(Partition peer, uint16_t kind, std::span<const std::byte> body,
                          io::Duration timeout, Answer answer) {
    Submitted request{peer, kind, {}, loop_.clock().now() + timeout, std::move(answer)};
    // One byte more than allowed is enough to refuse it.
    const auto kept = body.first(std::min(body.size(), max_channel_body_bytes + 1));
    request.body.assign(kept.begin(), kept.end());
    bool first;
    {
        const std::lock_guard lock(submitted_mutex_);
        first = submitted_.empty();
        submitted_.push_back(std::move(request));
    }
    if (first) gate_->post([this] { submit(); });
}

void ChannelCore::submit() {
    std::vector<Submitted> requests;
    {
        const std::lock_guard lock(submitted_mutex_);
        requests.swap(submitted_);
    }
    for (auto& request : requests)
        submit(std::move(request));
}

void ChannelCore::submit(Submitted request) {
    auto* peer = request.peer.value < peers_.size() ? &peers_[request.peer.value] : nullptr;
    if (!alive(request.peer))
        return request.answer(fail(Errc::unavailable, "partition {} is not there", request.peer.value));
    if (request.body.size() > max_channel_body_bytes)
        return request.answer(
            fail(Errc::invalid_argument, "a request has at most {} bytes", max_channel_body_bytes));
    if (peer->outstanding >= options_.max_outstanding_requests)
        return request.answer(fail(Errc::no_space,
                                   "{} requests to partition {} are unanswered, which is the limit",
                                   peer->outstanding, request.peer.value));
    const uint64_t id = next_id_++;
    auto timer = loop_.at(request.deadline, [this, id] {
        const auto late = pending_.find(id);
        finish(late, fail(Errc::timeout, "partition {} has not answered in time", late->second.peer.value));
    });
    pending_.emplace(id, Pending{request.peer, std::move(request.answer), std::move(timer)});
    ++peer->outstanding;
    if (request.peer == own_)
        return serve(request.peer, {MessageType::request, request.kind, id, std::move(request.body)});
    const auto sent =
        peer->session->send(encode_message(MessageType::request, request.kind, id, request.body));
    // A session that ended meanwhile has answered already.
    if (const auto unsent = pending_.find(id); !sent && unsent != pending_.end())
        finish(unsent, tl::unexpected(sent.error()));
}

void ChannelCore::finish(std::map<uint64_t, Pending>::iterator request,
                         Result<std::vector<std::byte>> result) {
    const auto taken = pending_.extract(request);
    --peers_[taken.mapped().peer.value].outstanding;
    taken.mapped().answer(std::move(result));
}

// ---- What peers send

Result<> ChannelCore::received(Partition partition, std::span<const std::byte> record) {
    auto message = TRY(decode_message(record));
    if (message.type == MessageType::request) {
        serve(partition, std::move(message));
        return {};
    }
    const auto request = pending_.find(message.id);
    // Late, or made up: nobody waits for it.
    if (request == pending_.end() || request->second.peer != partition) return {};
    if (message.type == MessageType::answer)
        finish(request, std::move(message.body));
    else
        finish(request, tl::unexpected(decode_error(message.body)));
    return {};
}

void ChannelCore::serve(Partition partition, ChannelMessage message) {
    auto& peer = peers_[partition.value];
    if (peer.serving >= options_.max_outstanding_requests || !events_.request) {
        ++peer.serving; // reply() counts it down again
        return reply(
            partition, peer.generation, message.id,
            fail(Errc::no_space, "{} requests are being served, which is the limit", peer.serving - 1));
    }
    ++peer.serving;
    ChannelReply::Answer answer = [this, gate = gate_, partition, generation = peer.generation,
                                   id = message.id](Result<std::vector<std::byte>> result) {
        gate->post([this, partition, generation, id, result = std::move(result)] {
            reply(partition, generation, id, result);
        });
    };
    events_.request(partition, message.kind, std::move(message.body), ChannelReply(std::move(answer)));
}

void ChannelCore::reply(Partition partition, uint64_t generation, uint64_t id,
                        const Result<std::vector<std::byte>>& result) {
    auto& peer = peers_[partition.value];
    if (peer.generation != generation) return;
    --peer.serving;
    if (partition == own_) return answered_here(id, result);
    std::vector<std::byte> record;
    if (result && result->size() <= max_channel_body_bytes)
        record = encode_message(MessageType::answer, 0, id, *result);
    else
        record = encode_message(
            MessageType::error, 0, id,
            encode_error(result ? Error(Errc::internal, "the answer is too large for a channel")
                                : result.error()));
    if (const auto sent = peer.session->send(record); !sent)
        spdlog::debug("answering partition {}: {}", partition.value, sent.error().message());
}

// The answer of our own agent's to our own request: unless that has timed out, what a peer would have sent.
void ChannelCore::answered_here(uint64_t id, const Result<std::vector<std::byte>>& result) {
    const auto request = pending_.find(id);
    if (request == pending_.end()) return;
    if (result && result->size() > max_channel_body_bytes)
        return finish(request, fail(Errc::internal, "the answer is too large for a channel"));
    finish(request, result);
}

} // namespace lanepool::ntb
