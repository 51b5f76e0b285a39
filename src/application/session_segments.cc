// SPDX-License-Identifier: Apache-2.0
#include "application/host.h"
#include "application/memory.h"
#include "application/session.h"
#include "session/protocol.h"

#include <algorithm>

namespace lanepool::application {

using session::Message;

namespace {
constexpr uint64_t max_timeout_ms = UINT32_MAX;
}

// ---- Segments of this host

uint64_t Session::segment_bytes() const {
    uint64_t sum = 0;
    for (const auto& [handle, segment] : segments_)
        sum += segment->size_bytes;
    return sum;
}

Result<> Session::segment_create(Message& call, Reply reply) {
    auto segment = std::make_shared<Segment>();
    segment->owner = this;
    segment->size_bytes = TRY(session::get_number(call.body, "size"));
    segment->is_private = TRY(session::get_flag(call.body, "private", false));
    std::optional<uint32_t> wanted;
    if (call.body.contains("segment_id")) wanted = TRY(get_number32(call.body, "segment_id"));
    if (segment->size_bytes == 0 || segment->size_bytes % page_bytes != 0)
        return fail(Errc::invalid_argument, "{} bytes are not whole pages of {}", segment->size_bytes,
                    page_bytes);
    if (segments_.size() >= session::max_segments)
        return fail(Errc::no_space, "the session has {} segments, which is the limit", segments_.size());
    if (segment->size_bytes > session::max_segment_bytes - segment_bytes())
        return fail(Errc::no_space, "the session's segments have over {} bytes together",
                    session::max_segment_bytes);
    if (!call.fds.empty()) TRY(give_memory(*segment, call));
    if (segment->is_private) // nobody looks for it: the number need not be free
        segment->id = wanted.value_or(0);
    else
        segment->id = TRY(host_.showing().segments.add(wanted, segment));
    segment->handle = new_handle();
    segments_.emplace(segment->handle, segment);
    reply(Answer{{{"segment", segment->handle}, {"segment_id", segment->id}}, {}});
    return {};
}

Result<> Session::give_memory(Segment& segment, Message& call) {
    if (call.fds.size() != 1)
        return fail(Errc::invalid_argument, "a segment has one descriptor, not {}", call.fds.size());
    segment.memory = TRY(check_memory(std::move(call.fds.front()), segment.size_bytes));
    segment.shown = std::make_shared<SharedExport>(host_.fabric(), *segment.memory);
    return {};
}

Result<> Session::segment_attach(Message& call, Reply reply) {
    auto& segment = *TRY(get_handle(call.body, "segment", segments_))->second;
    if (segment.memory) return fail(Errc::failed_precondition, "the segment has its memory already");
    TRY(give_memory(segment, call));
    reply(Answer{});
    return {};
}

Result<> Session::segment_available(Message& call, Reply reply) {
    const auto segment = TRY(get_handle(call.body, "segment", segments_))->second;
    const bool available = TRY(session::get_flag(call.body, "available", true));
    if (segment->is_private) return fail(Errc::failed_precondition, "the segment is private");
    if (!segment->memory) return fail(Errc::failed_precondition, "the segment has no memory yet");
    if (segment->changing) return fail(Errc::busy, "the segment's availability is being changed");
    if (segment->available == available)
        reply(Answer{});
    else if (available)
        set_available(segment, std::move(reply));
    else if (!segment->connections.empty())
        return fail(Errc::busy, "the segment has {} connections", segment->connections.size());
    else
        set_unavailable(segment, std::move(reply));
    return {};
}

void Session::set_available(const std::shared_ptr<Segment>& segment, Reply reply) {
    segment->changing = true;
    segment->shown->acquire(
        [weak = std::weak_ptr(segment), reply = std::move(reply)](const Result<ntb::Target>& target) {
            const auto self = weak.lock();
            if (!self) return;
            self->changing = false;
            if (!target) return reply(tl::unexpected(target.error()));
            self->available = true;
            reply(Answer{});
        });
}

void Session::set_unavailable(const std::shared_ptr<Segment>& segment, Reply reply) {
    segment->changing = true;
    segment->available = false;
    segment->shown->release([weak = std::weak_ptr(segment), reply = std::move(reply)](Result<> withdrawn) {
        if (const auto self = weak.lock()) self->changing = false;
        reply(withdrawn.map([] { return Answer{}; }));
    });
}

Result<> Session::segment_remove(Message& call, Reply reply) {
    const auto found = TRY(get_handle(call.body, "segment", segments_));
    const auto segment = found->second;
    if (!TRY(session::get_flag(call.body, "force", false))) {
        if (!segment->connections.empty())
            return fail(Errc::busy, "the segment has {} connections", segment->connections.size());
        if (segment->maps > 0) return fail(Errc::busy, "the segment is mapped for {} devices", segment->maps);
        if (segment->changing) return fail(Errc::busy, "the segment's availability is being changed");
    }
    segments_.erase(found);
    // SEGMENT lives until nobody reaches it any more: neither a device, nor who was connected to it.
    unmap([&](const Mapped& mapped) { return mapped.segment.lock() == segment; },
          [this, self = std::weak_ptr(self_), segment, reply = std::move(reply)] {
              if (!self.lock()) return;
              host_.showing().withdraw(*segment);
              if (!std::exchange(segment->available, false)) return reply(Answer{});
              segment->shown->release(
                  [segment, reply](Result<> withdrawn) { reply(withdrawn.map([] { return Answer{}; })); });
          });
    return {};
}

// ---- Connections to segments and interrupts

Result<Connections::Wish> Session::wish(const session::Json& body, const char* number) const {
    const auto node = TRY(session::get_number(body, "node"));
    const auto timeout_ms = TRY(session::get_number(body, "timeout_ms", 0));
    Connections::Wish wish;
    if (node >= ntb::max_partitions) return fail(Errc::unavailable, "there is no node {}", node);
    wish.peer = {static_cast<uint8_t>(node)};
    if (!host_.fabric().reaches(wish.peer)) return fail(Errc::unavailable, "node {} does not answer", node);
    wish.number = TRY(get_number32(body, number));
    wish.user = fmt::format("{}@{}", user_, host_.name());
    wish.timeout = std::chrono::milliseconds(std::min(timeout_ms, max_timeout_ms));
    return wish;
}

Result<> Session::segment_connect(Message& call, Reply reply) {
    return connect(TRY(wish(call.body, "segment_id")), std::move(reply));
}

Result<> Session::connect(Connections::Wish wish, Reply reply) {
    if (connections_.size() >= session::max_connections)
        return fail(Errc::no_space, "the session has {} connections, which is the limit",
                    connections_.size());
    const uint64_t handle = new_handle();
    const std::weak_ptr weak = self_;
    Held& held = connections_[handle]; // so that it is closed when the session ends
    held.connection = host_.connections().open(
        std::move(wish),
        [weak, handle, reply](Result<Connections::Way> way) {
            const auto self = weak.lock();
            if (!self) return;
            if (way) return reply((*self)->connected(handle, *way));
            (*self)->connections_.erase(handle);
            reply(tl::unexpected(std::move(way).error()));
        },
        [weak, handle](const std::string& reason) {
            if (const auto self = weak.lock()) (*self)->lost(handle, reason);
        });
    held.closes = std::shared_ptr<void>(
        nullptr, [connection = held.connection, alive = std::weak_ptr(host_.fabric().alive)](void*) {
            if (!alive.expired()) connection->close([] {});
        });
    return {};
}

Result<Session::Answer> Session::connected(uint64_t handle, const Connections::Way& way) {
    Held& held = connections_.at(handle);
    Answer answer{{{"connection", handle}}, {}};
    if (way.event) answer.fds.push_back(way.event);
    if (way.event) // an interrupt: the ring is one piece, from the descriptor's first byte on
        for (const auto& extent : way.extents)
            answer.fds.push_back(extent.memory.fd);
    else {
        answer.fields["size"] = way.target.size_bytes;
        add_extents(answer, way.extents);
    }
    if (answer.fds.size() > session::max_message_fds) {
        connections_.erase(handle);
        return fail(Errc::no_space, "the segment's memory is in {} pieces, more than a message can carry",
                    answer.fds.size());
    }
    held.open = true;
    if (!way.event) held.target = way.target;
    return answer;
}

void Session::lost(uint64_t handle, const std::string& reason) {
    unmap([&](const Mapped& mapped) { return mapped.connection == handle; }, [] {});
    connections_.erase(handle);
    event({{"event", "connection_lost"}, {"connection", handle}, {"reason", reason}}, {});
}

Result<> Session::disconnect(Message& call, Reply reply) {
    const auto found = TRY(get_handle(call.body, "connection", connections_));
    if (!found->second.open) return fail(Errc::not_found, "the session has no such connection");
    if (found->second.maps > 0 && !TRY(session::get_flag(call.body, "force", false)))
        return fail(Errc::busy, "the connection is mapped for {} devices", found->second.maps);
    unmap([&](const Mapped& mapped) { return mapped.connection == found->first; },
          [this, self = std::weak_ptr(self_), handle = found->first, reply = std::move(reply)] {
              if (self.lock()) close(handle, reply);
          });
    return {};
}

void Session::close(uint64_t handle, const Reply& reply) {
    auto held = connections_.extract(handle);
    if (held.empty()) return reply(fail(Errc::not_found, "the connection has been lost meanwhile"));
    if (const auto connection = held.mapped().connection)
        return connection->close([reply] { reply(Answer{}); });
    auto& errands = host_.fabric().errands;
    if (held.mapped().window) errands.dispose(std::move(held.mapped().window));
    errands.flush([reply] { reply(Answer{}); });
}

} // namespace lanepool::application
