// SPDX-License-Identifier: Apache-2.0
#include "lanepool/smartio.h"
#include "smartio/link.h"

namespace lanepool::bench {

namespace {

constexpr std::chrono::seconds patience{20};
constexpr uint32_t first_id = 0x6265'0001; // of segments and interrupts: the second end has the next

class SegmentLink final : public Link {
  public:
    SegmentLink(Session session, Segment segment, RemoteSegment remote, MappedRange there,
                Interrupt interrupt, RemoteInterrupt other)
        : session_(std::move(session)), segment_(std::move(segment)), remote_(std::move(remote)),
          there_(std::move(there)), interrupt_(std::move(interrupt)), other_(std::move(other)) {}
    std::span<std::byte> here() const override { return segment_.bytes(); }
    std::span<std::byte> there() const override { return there_.bytes(); }
    Result<> wake() override { return other_.trigger(); }
    Result<> wait(std::chrono::milliseconds timeout) override {
        TRY(interrupt_.wait(timeout));
        return {};
    }

  private:
    Session session_;
    Segment segment_;
    RemoteSegment remote_;
    MappedRange there_;
    Interrupt interrupt_;
    RemoteInterrupt other_;
};

} // namespace

Result<std::unique_ptr<Link>> make_segment_link(const char* agent, bool first, uint32_t other_node) {
    const uint32_t own_id = first ? first_id : first_id + 1;
    const uint32_t other_id = first ? first_id + 1 : first_id;
    auto session = TRY(Session::open({.socket = agent}));
    auto segment = TRY(Segment::create(session, {.size_bytes = link_bytes, .id = own_id}));
    auto interrupt = TRY(Interrupt::create(session, {.number = own_id}));
    TRY(segment.set_available(true));
    auto remote = TRY(RemoteSegment::connect(session, other_node, other_id, patience));
    auto other = TRY(RemoteInterrupt::connect(session, other_node, other_id, patience));
    auto there = TRY(remote.map());
    return std::make_unique<SegmentLink>(std::move(session), std::move(segment), std::move(remote),
                                         std::move(there), std::move(interrupt), std::move(other));
}

Result<uint32_t> node_of(const char* agent) { return TRY(Session::open({.socket = agent})).node(); }

} // namespace lanepool::bench
