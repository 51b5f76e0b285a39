// SPDX-License-Identifier: Apache-2.0
#include "application/showing.h"

#include "session/protocol.h"

namespace lanepool::application {

namespace {
// Of one peer: all of its sessions together.
constexpr size_t max_connections_of_peer = 16384;
} // namespace

struct Showing::Ring {
    SharedFd memory;
    ntb::Export shown;
};

// ---- What other agents ask

void Showing::serve(ntb::Partition from, SegmentRequest request, std::span<const std::byte> body,
                    ntb::ChannelReply reply) {
    if (request == SegmentRequest::disconnect) {
        const auto ids = decode_ids(body);
        if (!ids) return reply(tl::unexpected(ids.error()));
        for (const uint64_t id : *ids)
            disconnect({from, id});
        return reply(std::vector<std::byte>{});
    }
    const auto connect = decode_connect(body);
    if (!connect) return reply(tl::unexpected(connect.error()));
    const PeerConnection connection{from, connect->connection};
    if (request == SegmentRequest::connect_interrupt)
        return connect_interrupt(connection, *connect, std::move(reply));
    const auto shown = connect_segment(connection, *connect);
    if (!shown) return reply(tl::unexpected(shown.error()));
    reply(encode(*shown));
}

Result<> Showing::check_new(PeerConnection from) const {
    if (connections_.contains(from)) return fail(Errc::already_exists, "connection {} is in use", from.id);
    const auto count = of_peer_.find(from.peer);
    if (count != of_peer_.end() && count->second >= max_connections_of_peer)
        return fail(Errc::no_space, "your host has {} connections to this one, which is the limit",
                    count->second);
    return {};
}

Result<Shown> Showing::connect_segment(PeerConnection from, const Connect& connect) {
    TRY(check_new(from));
    const auto segment = segments.find(connect.number);
    if (!segment || !segment->available)
        return fail(Errc::not_found, "node {} shows no segment {:#x}", fabric_.own.value, connect.number);
    const auto target = segment->shown->target();
    if (!target) return fail(Errc::internal, "segment {:#x} is available but not exported", connect.number);
    connections_.emplace(from, segment);
    ++of_peer_[from.peer];
    segment->connections.insert(from);
    segment->owner->event(
        {{"event", "segment_connected"}, {"segment", segment->handle}, {"node", from.peer.value}}, {});
    return Shown{target->address, segment->size_bytes};
}

void Showing::connect_interrupt(PeerConnection from, const Connect& connect, ntb::ChannelReply reply) {
    if (const auto checked = check_new(from); !checked) return reply(tl::unexpected(checked.error()));
    const auto interrupt = interrupts.find(connect.number);
    if (!interrupt || !interrupt->shown)
        return reply(
            fail(Errc::not_found, "node {} has no interrupt {:#x}", fabric_.own.value, connect.number));
    if (interrupt->data != connect.data)
        return reply(fail(Errc::failed_precondition, "interrupt {:#x} of node {} is one {} messages",
                          connect.number, fabric_.own.value, interrupt->data ? "with" : "without"));
    if (interrupt->senders.size() >= session::max_senders)
        return reply(fail(Errc::no_space, "interrupt {:#x} of node {} has {} senders, which is the limit",
                          connect.number, fabric_.own.value, interrupt->senders.size()));
    connections_.emplace(from, interrupt);
    ++of_peer_[from.peer];
    interrupt->senders[from];
    if (connect.data) return make_ring(from, connect, interrupt, std::move(reply));
    reply(encode(ShownInterrupt{interrupt->shown.address(), {}}));
}

void Showing::make_ring(PeerConnection from, const Connect& connect,
                        const std::shared_ptr<Interrupt>& interrupt, ntb::ChannelReply reply) {
    fabric_.errands.run(
        [&adapter = fabric_.adapter]() -> Result<Ring> {
            auto memory = share(TRY(create_memory("lanepool-messages", session::data_ring_bytes)));
            auto shown =
                TRY(adapter.export_memory({memory, 0, session::data_ring_bytes}, Access::read_write));
            return Ring{std::move(memory), std::move(shown)};
        },
        [this, from, user = connect.user, weak = std::weak_ptr(interrupt),
         reply = std::make_shared<ntb::ChannelReply>(std::move(reply))](Result<Ring> ring) {
            const auto there = weak.lock();
            Result<ShownInterrupt> shown = fail(Errc::not_found, "the interrupt has been removed meanwhile");
            if (there && there->owner && there->senders.contains(from))
                shown = ring_made(from, user, *there, std::move(ring));
            else if (ring)
                fabric_.errands.dispose(std::move(ring->shown));
            if (!shown) return (*reply)(tl::unexpected(shown.error()));
            (*reply)(encode(*shown));
        });
}

Result<ShownInterrupt> Showing::ring_made(PeerConnection from, const std::string& user, Interrupt& interrupt,
                                          Result<Ring> ring) {
    if (!ring) {
        disconnect(from);
        return tl::unexpected(std::move(ring).error());
    }
    auto& sender = interrupt.senders.at(from);
    sender.handle = interrupt.owner->new_handle();
    sender.ring = std::move(ring->shown);
    interrupt.owner->event({{"event", "interrupt_sender"},
                            {"interrupt", interrupt.handle},
                            {"sender", sender.handle},
                            {"node", from.peer.value},
                            {"user", user}},
                           {ring->memory});
    return ShownInterrupt{interrupt.shown.address(), {sender.ring.address(), sender.ring.size_bytes()}};
}

// ---- The ends of connections

void Showing::disconnect(PeerConnection from) {
    const auto taken = connections_.extract(from);
    if (taken.empty()) return;
    if (--of_peer_[from.peer] == 0) of_peer_.erase(from.peer);
    std::visit([&](const auto& shown) { forget(*shown, from); }, taken.mapped());
}

void Showing::forget(Segment& segment, PeerConnection from) {
    segment.connections.erase(from);
    if (segment.owner)
        segment.owner->event(
            {{"event", "segment_disconnected"}, {"segment", segment.handle}, {"node", from.peer.value}}, {});
}

void Showing::forget(Interrupt& interrupt, PeerConnection from) {
    auto sender = interrupt.senders.extract(from);
    if (sender.mapped().ring) fabric_.errands.dispose(std::move(sender.mapped().ring));
    if (interrupt.owner && sender.mapped().handle != 0)
        interrupt.owner->event({{"event", "interrupt_sender_gone"},
                                {"interrupt", interrupt.handle},
                                {"sender", sender.mapped().handle}},
                               {});
}

void Showing::withdraw(Segment& segment) {
    segment.owner = nullptr;
    if (!segment.is_private) segments.remove(segment.id);
    for (const auto& from : std::set(segment.connections)) {
        // Until they know, the memory stays where it is: they would reach something else there.
        notices_.add(from.peer, SegmentRequest::gone, from.id, [kept = segment.shown] {});
        disconnect(from);
    }
}

void Showing::withdraw(Interrupt& interrupt) {
    interrupt.owner = nullptr;
    interrupts.remove(interrupt.number);
    while (!interrupt.senders.empty()) {
        const auto from = interrupt.senders.begin()->first;
        notices_.add(from.peer, SegmentRequest::gone, from.id);
        disconnect(from);
    }
    if (interrupt.shown) fabric_.errands.dispose(std::move(interrupt.shown));
}

void Showing::peer_lost(ntb::Partition peer) {
    std::vector<PeerConnection> lost;
    for (auto it = connections_.lower_bound({peer, 0}); it != connections_.end() && it->first.peer == peer;
         ++it)
        lost.push_back(it->first);
    for (const auto& from : lost)
        disconnect(from);
}

} // namespace lanepool::application
