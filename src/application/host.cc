// SPDX-License-Identifier: Apache-2.0
#include "application/host.h"

#include <spdlog/spdlog.h>

namespace lanepool::application {

Result<> Host::add_session(UniqueFd socket, const std::string& user) {
    const uint64_t id = next_session_++;
    auto session = std::make_unique<Session>(*this, id, std::move(socket), user);
    TRY(session->start());
    sessions_.emplace(id, std::move(session));
    return {};
}

void Host::end_session(uint64_t id) {
    fabric_.loop.post([this, alive = std::weak_ptr(fabric_.alive), id] {
        if (!alive.expired()) sessions_.erase(id);
    });
}

void Host::serve(ntb::Partition from, uint16_t kind, std::vector<std::byte> body, ntb::ChannelReply reply) {
    const auto request = segment_request(kind);
    if (!request) return reply(tl::unexpected(request.error()));
    if (*request != SegmentRequest::gone) return showing_.serve(from, *request, body, std::move(reply));
    const auto ids = decode_ids(body);
    if (!ids) return reply(tl::unexpected(ids.error()));
    for (const uint64_t id : *ids)
        connections_.gone(from, id);
    // Once this host does not reach it any more.
    fabric_.errands.flush([reply = std::make_shared<ntb::ChannelReply>(std::move(reply))] {
        (*reply)(std::vector<std::byte>{});
    });
}

void Host::peer_changed(ntb::Partition peer, bool alive) {
    if (alive) return;
    showing_.peer_lost(peer);
    connections_.peer_lost(peer);
    devices_.peer_lost(peer);
}

session::Json Host::counts() const {
    const auto capacity = fabric_.adapter.capacity();
    size_t segments = 0; // private ones included
    for (const auto& [id, session] : sessions_)
        segments += session->segments();
    return {{"sessions", sessions_.size()},
            {"segments", segments},
            {"shown", showing_.segments.size()},
            {"interrupts", showing_.interrupts.size()},
            {"connected", showing_.connections()},
            {"connections", connections_.size()},
            {"devices", devices_.size()},
            {"notices", notices_.waiting()},
            {"windows", capacity.windows - capacity.windows_free}};
}

} // namespace lanepool::application
