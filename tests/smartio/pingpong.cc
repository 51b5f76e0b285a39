// SPDX-License-Identifier: Apache-2.0
#include "lanepool/smartio.h"
#include "smartio/roles.h"

#include <atomic>

namespace lanepool::load {

namespace {

using namespace std::chrono_literals;

constexpr uint64_t segment_bytes = 64 << 10;
constexpr uint32_t other_side = 1; // what ping's ids have more than pong's
// Who is not answered for so long connects anew: the other side may have been started again.
constexpr auto patience = 1s;

std::atomic_ref<uint64_t> word(std::span<std::byte> memory) {
    return std::atomic_ref(*reinterpret_cast<uint64_t*>(memory.data()));
}

// One side: its own memory and interrupt, and those of the other.
struct Side {
    Session session;
    Segment segment;
    Interrupt interrupt;

    static Result<Side> create(const Options& options, uint32_t id) {
        auto session = TRY(Session::open({.socket = options.agent}));
        auto segment = TRY(Segment::create(session, {.size_bytes = segment_bytes, .id = id}));
        auto interrupt = TRY(Interrupt::create(session, {.number = id}));
        TRY(segment.set_available(true));
        return Side{std::move(session), std::move(segment), std::move(interrupt)};
    }
};

struct Other {
    RemoteSegment segment;
    MappedRange memory;
    RemoteInterrupt interrupt;

    static Result<Other> connect(Session& session, uint32_t node, uint32_t id) {
        auto segment = TRY(RemoteSegment::connect(session, node, id, patience));
        auto memory = TRY(segment.map());
        auto interrupt = TRY(RemoteInterrupt::connect(session, node, id, patience));
        return Other{std::move(segment), std::move(memory), std::move(interrupt)};
    }
};

} // namespace

Result<> ping(const Options& options, Progress& progress) {
    auto own = TRY(Side::create(options, options.id + other_side));
    auto pong = TRY(Other::connect(own.session, options.node, options.id));
    // Where pong finds us is in its second word.
    word(pong.memory.bytes().subspan(8)).store(own.session.node() + 1);
    for (uint64_t number = 1;; ++number) {
        word(pong.memory.bytes()).store(number);
        TRY(pong.interrupt.trigger());
        TRY(own.interrupt.wait(patience));
        if (const uint64_t answer = word(own.segment.bytes()).load(); answer != number)
            wrong(fmt::format("pong answered {} instead of {}", answer, number));
        progress.step();
    }
}

Result<> pong(const Options& options, Progress& progress) {
    auto own = TRY(Side::create(options, options.id));
    while (!own.interrupt.wait(patience))
        TRY(own.session.probe(own.session.node())); // until ping has come
    const auto node = static_cast<uint32_t>(word(own.segment.bytes().subspan(8)).load() - 1);
    auto ping = TRY(Other::connect(own.session, node, options.id + other_side));
    while (true) {
        word(ping.memory.bytes()).store(word(own.segment.bytes()).load());
        TRY(ping.interrupt.trigger());
        progress.step();
        TRY(own.interrupt.wait(patience));
    }
}

} // namespace lanepool::load
