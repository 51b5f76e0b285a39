// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "application/notices.h"
#include "application/numbers.h"
#include "application/shown.h"

#include <map>
#include <memory>
#include <variant>

namespace lanepool::application {

// What this host's processes show, and who has connected to it. On the loop's thread.
class Showing {
  public:
    Showing(Fabric& fabric, Notices& notices) : fabric_(fabric), notices_(notices) {}

    Numbers<Segment> segments; // but for private ones
    Numbers<Interrupt> interrupts;

    // A request of another agent's: any but `gone`.
    void serve(ntb::Partition from, SegmentRequest request, std::span<const std::byte> body,
               ntb::ChannelReply reply);
    // Takes it away from everybody who has connected, who are told, and from the numbers.
    void withdraw(Segment& segment);
    void withdraw(Interrupt& interrupt);
    // Who has died has nothing any more.
    void peer_lost(ntb::Partition peer);

    size_t connections() const { return connections_.size(); }

  private:
    Result<Shown> connect_segment(PeerConnection from, const Connect& connect);
    void connect_interrupt(PeerConnection from, const Connect& connect, ntb::ChannelReply reply);
    void make_ring(PeerConnection from, const Connect& connect, const std::shared_ptr<Interrupt>& interrupt,
                   ntb::ChannelReply reply);
    struct Ring;
    Result<ShownInterrupt> ring_made(PeerConnection from, const std::string& user, Interrupt& interrupt,
                                     Result<Ring> ring);
    Result<> check_new(PeerConnection from) const;
    void disconnect(PeerConnection from);
    void forget(Segment& segment, PeerConnection from);
    void forget(Interrupt& interrupt, PeerConnection from);

    Fabric& fabric_;
    Notices& notices_;
    std::map<PeerConnection, std::variant<std::shared_ptr<Segment>, std::shared_ptr<Interrupt>>> connections_;
    std::map<ntb::Partition, size_t> of_peer_; // how many of those are whose
};

} // namespace lanepool::application
