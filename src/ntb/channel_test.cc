// SPDX-License-Identifier: Apache-2.0
//
// The channel's protocol over plain memory, in time that the test owns.
#include "ntb/memory_transport.h"

#include <gtest/gtest.h>
#include <random>

namespace lanepool::ntb {
namespace {

using namespace std::chrono_literals;
using testing::MemoryFabric;

using Body = std::vector<std::byte>;
Body body_of(std::string_view text) {
    const auto bytes = std::as_bytes(std::span(text));
    return {bytes.begin(), bytes.end()};
}

// A host whose channel answers every request with its own body, or keeps the reply.
struct Host {
    Host(MemoryFabric& fabric, uint8_t partition, uint64_t incarnation, ChannelOptions options = {})
        : fabric_(fabric), self{partition} {
        ChannelEvents events;
        events.request = [this](Partition from, uint16_t kind, Body body, ChannelReply reply) {
            ++served;
            last_from = from;
            last_kind = kind;
            if (keep)
                kept.push_back(std::move(reply));
            else
                reply(std::move(body));
        };
        events.peer_changed = [this](Partition peer, bool alive) {
            history += static_cast<char>('0' + peer.value);
            history += alive ? '+' : '-';
        };
        core = ChannelCore::create(*fabric.loop, fabric.transport(partition), std::move(events), options,
                                   incarnation)
                   .value();
    }
    // As when its process is killed: nothing is said to anybody.
    void kill() {
        core.reset();
        fabric_.memory.erase(self.value);
    }
    std::shared_ptr<std::optional<Result<Body>>> ask(uint8_t peer, Body body, io::Duration timeout = 10s) {
        auto answer = std::make_shared<std::optional<Result<Body>>>();
        core->request(Partition{peer}, 7, body, timeout, [answer](Result<Body> result) {
            ASSERT_FALSE(*answer) << "answered twice";
            *answer = std::move(result);
        });
        return answer;
    }
    bool alive(uint8_t peer) const { return core->alive(Partition{peer}); }

    MemoryFabric& fabric_;
    const Partition self;
    int served = 0;
    Partition last_from;
    uint16_t last_kind = 0;
    bool keep = false;
    std::vector<ChannelReply> kept;
    std::string history;
    std::unique_ptr<ChannelCore> core;
};

Errc code(const std::shared_ptr<std::optional<Result<Body>>>& answer) {
    EXPECT_TRUE(*answer) << "no answer";
    return *answer && !**answer ? (**answer).error().code() : Errc::internal;
}
bool answered(const std::shared_ptr<std::optional<Result<Body>>>& answer, const Body& body) {
    return *answer && **answer && ***answer == body;
}

TEST(Channel, HostsMeetInEitherOrderOfStart) {
    MemoryFabric fabric(3);
    Host one(fabric, 0, 100);
    fabric.run(3s);
    EXPECT_EQ(one.history, "");
    Host two(fabric, 1, 200);
    fabric.settle(); // without a heartbeat
    EXPECT_EQ(one.history, "1+");
    EXPECT_EQ(two.history, "0+");
    fabric.run(60s);
    EXPECT_EQ(one.history, "1+");
    EXPECT_EQ(one.core->alive_peers(), std::vector<Partition>{Partition{1}});
}

TEST(Channel, RequestsAreAnswered) {
    MemoryFabric fabric(2);
    Host one(fabric, 0, 100), two(fabric, 1, 200);
    fabric.settle();
    const Body largest(max_channel_body_bytes, std::byte{3});
    const auto first = one.ask(1, body_of("hello"));
    const auto empty = one.ask(1, {});
    const auto large = one.ask(1, largest);
    const auto back = two.ask(0, body_of("there"));
    EXPECT_FALSE(*first); // never from inside request()
    fabric.settle();
    EXPECT_TRUE(answered(first, body_of("hello")));
    EXPECT_TRUE(answered(empty, {}));
    EXPECT_TRUE(answered(large, largest));
    EXPECT_TRUE(answered(back, body_of("there")));
    EXPECT_EQ(two.last_kind, 7);
    EXPECT_TRUE(two.last_from == Partition{0});
    EXPECT_EQ(code([&] {
                  auto answer = one.ask(1, Body(max_channel_body_bytes + 1));
                  fabric.settle();
                  return answer;
              }()),
              Errc::invalid_argument);
}

TEST(Channel, ErrorsTravelWithTheirCode) {
    MemoryFabric fabric(2);
    Host one(fabric, 0, 100), two(fabric, 1, 200);
    two.keep = true;
    fabric.settle();
    const auto first = one.ask(1, {});
    const auto second = one.ask(1, {});
    fabric.settle();
    two.kept[0](fail(Errc::stale_epoch, "that was\nyesterday"));
    two.kept.clear(); // drops the second
    fabric.settle();
    EXPECT_EQ(code(first), Errc::stale_epoch);
    EXPECT_EQ((**first).error().message(), "that was yesterday");
    EXPECT_EQ(code(second), Errc::cancelled);
}

TEST(Channel, ManyLargeRequestsBothWaysGoThroughASmallRing) {
    MemoryFabric fabric(2);
    Host one(fabric, 0, 100), two(fabric, 1, 200);
    fabric.settle();
    for (int round = 0; round < 4; ++round) {
        std::vector<std::pair<std::shared_ptr<std::optional<Result<Body>>>, Body>> asked;
        for (int i = 0; i < 256; ++i) {
            const Body body(max_channel_body_bytes - static_cast<size_t>(i), std::byte(i));
            asked.emplace_back(one.ask(1, body), body);
            asked.emplace_back(two.ask(0, body), body);
        }
        fabric.settle(); // all without waiting for a heartbeat
        for (const auto& [answer, body] : asked)
            ASSERT_TRUE(answered(answer, body));
    }
    EXPECT_EQ(one.history, "1+");
}

TEST(Channel, AWriterWithAFullRingIsWakedWhenThereIsRoom) {
    MemoryFabric fabric(2);
    Host one(fabric, 0, 100), two(fabric, 1, 200);
    two.keep = true; // no answer wakes the writer
    fabric.settle();
    for (int i = 0; i < 200; ++i)
        one.ask(1, Body(max_channel_body_bytes));
    fabric.settle();
    EXPECT_EQ(two.served, 200);
}

TEST(Channel, LimitsOutstandingRequests) {
    MemoryFabric fabric(2);
    Host one(fabric, 0, 100, {.max_outstanding_requests = 3}), two(fabric, 1, 200);
    two.keep = true;
    fabric.settle();
    std::vector<std::shared_ptr<std::optional<Result<Body>>>> asked;
    for (int i = 0; i < 4; ++i)
        asked.push_back(one.ask(1, {}));
    fabric.settle();
    EXPECT_FALSE(*asked[2]);
    EXPECT_EQ(code(asked[3]), Errc::no_space);
    two.kept.clear();
    fabric.settle();
    asked.push_back(one.ask(1, {}));
    fabric.settle();
    EXPECT_FALSE(*asked[4]);
}

TEST(Channel, RefusesMoreRequestsOfAPeerThanItServes) {
    MemoryFabric fabric(2);
    Host one(fabric, 0, 100), two(fabric, 1, 200, {.max_outstanding_requests = 3});
    two.keep = true;
    fabric.settle();
    std::vector<std::shared_ptr<std::optional<Result<Body>>>> asked;
    for (int i = 0; i < 5; ++i)
        asked.push_back(one.ask(1, {}));
    fabric.settle();
    EXPECT_EQ(two.served, 3);
    EXPECT_FALSE(*asked[2]);
    EXPECT_EQ(code(asked[3]), Errc::no_space);
    EXPECT_EQ(code(asked[4]), Errc::no_space);
}

TEST(Channel, ARequestTimesOutAndItsLateAnswerIsDropped) {
    MemoryFabric fabric(2);
    Host one(fabric, 0, 100), two(fabric, 1, 200);
    two.keep = true;
    fabric.settle();
    const auto asked = one.ask(1, {}, 500ms);
    fabric.run(490ms);
    EXPECT_FALSE(*asked);
    fabric.run(20ms);
    EXPECT_EQ(code(asked), Errc::timeout);
    two.kept.clear();
    fabric.run(1s);
    EXPECT_EQ(one.history, "1+");
}

TEST(Channel, ASilentPeerIsDeadAfterItsTimeout) {
    MemoryFabric fabric(2);
    Host one(fabric, 0, 100), two(fabric, 1, 200);
    two.keep = true;
    fabric.settle();
    const auto asked = one.ask(1, {});
    fabric.settle();
    two.kill();
    fabric.run(900ms);
    EXPECT_TRUE(one.alive(1));
    fabric.run(500ms);
    EXPECT_FALSE(one.alive(1));
    EXPECT_EQ(code(asked), Errc::disconnected);
    const auto late = one.ask(1, {});
    fabric.settle();
    EXPECT_EQ(code(late), Errc::unavailable);
    EXPECT_EQ(one.history, "1+1-");
}

TEST(Channel, ARestartedPeerIsMetAgain) {
    MemoryFabric fabric(2);
    Host one(fabric, 0, 100);
    auto two = std::make_unique<Host>(fabric, 1, 200);
    for (uint64_t round = 1; round <= 5; ++round) {
        two->keep = true;
        fabric.run(30ms);
        const auto asked = one.ask(1, body_of("x"));
        fabric.settle();
        two->kill();
        two = std::make_unique<Host>(fabric, 1, 200 + 1000 * round);
        fabric.run(30ms);
        EXPECT_EQ(code(asked), Errc::disconnected);
        EXPECT_TRUE(one.alive(1) && two->alive(0));
        const auto again = one.ask(1, body_of("again"));
        const auto back = two->ask(0, body_of("back"));
        fabric.settle();
        EXPECT_TRUE(answered(again, body_of("again")));
        EXPECT_TRUE(answered(back, body_of("back")));
    }
    EXPECT_EQ(one.history, "1+1-1+1-1+1-1+1-1+1-1+");
}

TEST(Channel, WhatWasLeftOfAnEarlierSessionIsForgotten) {
    MemoryFabric fabric(2);
    auto one = std::make_unique<Host>(fabric, 0, 100);
    Host two(fabric, 1, 200, {.max_outstanding_requests = 2});
    two.keep = true;
    fabric.run(30ms);
    one->ask(1, {});
    one->ask(1, {});
    fabric.settle();
    one->kill();
    one = std::make_unique<Host>(fabric, 0, 5000);
    fabric.run(30ms);
    const auto first = one->ask(1, {}); // with the same number as the one before
    const auto second = one->ask(1, {});
    fabric.settle();
    ASSERT_EQ(two.kept.size(), 4u) << "the limit still counts requests of the dead";
    two.kept[0](body_of("old"));
    fabric.settle();
    EXPECT_FALSE(*first);
    two.kept[2](body_of("new"));
    two.kept[3](body_of("new"));
    fabric.settle();
    EXPECT_TRUE(answered(first, body_of("new")) && answered(second, body_of("new")));
}

// Speaks the protocol by hand, to say what no honest host would.
class Hostile {
  public:
    Hostile(MemoryFabric& fabric, uint8_t own, uint8_t victim)
        : fabric_(fabric), memory_(std::make_shared<testing::HostMemory>()),
          link_(fabric, own, fabric.memory[victim]) {
        fabric.memory[own] = memory_;
        for (const auto field : {mailbox::Field::head, mailbox::Field::tail})
            EXPECT_TRUE(mailbox::store(link_, field, static_cast<uint32_t>(mailbox::first_count)));
        introduce(0);
        link_.wake();
        fabric.run(30ms);
        const auto theirs = read_mailbox(memory_->areas[victim].bytes).value().incarnation;
        writer_.reset(own_ ^ (theirs << 1 | theirs >> 63));
        introduce(theirs);
        link_.wake();
        fabric.settle();
    }
    void say(const std::vector<std::byte>& record) {
        EXPECT_TRUE(writer_.write(link_, record).value());
        EXPECT_TRUE(mailbox::store(link_, mailbox::Field::head, static_cast<uint32_t>(writer_.head())));
        link_.wake();
        fabric_.settle();
    }

  private:
    void introduce(uint64_t theirs) {
        EXPECT_TRUE(mailbox::store(link_, mailbox::Identity{own_, theirs, 0}));
    }

    static constexpr uint64_t own_ = 900;
    MemoryFabric& fabric_;
    std::shared_ptr<testing::HostMemory> memory_;
    testing::MemoryLink link_;
    RingWriter writer_;
};

TEST(Channel, NobodyAnswersForSomebodyElse) {
    MemoryFabric fabric(3);
    Host one(fabric, 0, 100), two(fabric, 1, 200);
    two.keep = true;
    Hostile three(fabric, 2, 0);
    ASSERT_TRUE(one.alive(2));
    const auto asked = one.ask(1, {});
    fabric.settle();
    for (uint64_t id = 0; id < 10; ++id) {
        three.say(encode_message(MessageType::answer, 0, id, body_of("made up")));
        three.say(encode_message(MessageType::error, 0, id, body_of("made up")));
    }
    EXPECT_FALSE(*asked);
    EXPECT_TRUE(one.alive(2)); // strange, but allowed
    two.kept[0](body_of("true"));
    fabric.settle();
    EXPECT_TRUE(answered(asked, body_of("true")));
}

TEST(Channel, AMessageThatIsNoneEndsTheSession) {
    MemoryFabric fabric(3);
    Host one(fabric, 0, 100), two(fabric, 1, 200);
    Hostile three(fabric, 2, 0);
    ASSERT_TRUE(one.alive(2));
    three.say(encode_message(static_cast<MessageType>(9), 0, 1, {}));
    EXPECT_FALSE(one.alive(2));
    EXPECT_TRUE(one.alive(1));
}

TEST(Channel, APeerThatReadsNothingDoesNotFillOurMemory) {
    MemoryFabric fabric(2);
    Host one(fabric, 0, 100, {.max_outstanding_requests = 4});
    Hostile two(fabric, 1, 0);
    ASSERT_TRUE(one.alive(1));
    const Body large(max_channel_body_bytes);
    // Each is answered at once, and none of the answers is read.
    for (uint64_t id = 0; id < 7 + 4 * 4; ++id) {
        ASSERT_TRUE(one.alive(1)) << id;
        two.say(encode_message(MessageType::request, 1, id, Body(16)));
        one.ask(1, large);
        fabric.settle();
    }
    for (uint64_t id = 0; one.alive(1) && id < 10000; ++id)
        two.say(encode_message(MessageType::request, 1, id, Body(16)));
    EXPECT_FALSE(one.alive(1));
}

TEST(Channel, ALinkThatGoesDownEndsTheSessionAtOnceAndComesBack) {
    MemoryFabric fabric(3);
    Host one(fabric, 0, 100), two(fabric, 1, 200), three(fabric, 2, 300);
    two.keep = true;
    fabric.settle();
    const auto changed = [&] {
        for (auto* host : {&one, &two, &three})
            host->core->link_changed();
        fabric.settle();
    };
    const auto asked = one.ask(1, {});
    fabric.settle();
    fabric.down.insert(1);
    changed();
    EXPECT_EQ(code(asked), Errc::disconnected);
    EXPECT_FALSE(one.alive(1) || two.alive(0) || two.alive(2));
    EXPECT_TRUE(one.alive(2));
    fabric.run(5s);
    fabric.down.clear();
    changed();
    fabric.run(30ms);
    EXPECT_TRUE(one.alive(1) && two.alive(0) && two.alive(2));
    EXPECT_EQ(three.history.size(), 8u);
    two.keep = false;
    const auto again = one.ask(1, body_of("again"));
    fabric.settle();
    EXPECT_TRUE(answered(again, body_of("again")));
}

TEST(Channel, RecoversFromWritesThatGotLost) {
    MemoryFabric fabric(2);
    Host one(fabric, 0, 100), two(fabric, 1, 200);
    fabric.run(30ms);
    fabric.losing.insert(0);
    const auto lost = one.ask(1, body_of("lost"));
    fabric.settle();
    fabric.losing.clear();
    EXPECT_FALSE(*lost);
    const auto next = one.ask(1, body_of("next")); // its record does not follow on what the peer has
    fabric.settle();
    EXPECT_EQ(code(lost), Errc::disconnected);
    EXPECT_EQ(code(next), Errc::disconnected);
    fabric.run(600ms);
    const auto again = one.ask(1, body_of("again"));
    fabric.settle();
    EXPECT_TRUE(answered(again, body_of("again")));
}

TEST(Channel, APeerThatStoppedForAWhileComesBack) {
    MemoryFabric fabric(2);
    Host one(fabric, 0, 100), two(fabric, 1, 200);
    fabric.settle();
    fabric.losing.insert(1); // nothing of it is seen, it sees everything
    fabric.run(1500ms);
    EXPECT_EQ(one.history, "1+1-");
    fabric.losing.clear();
    fabric.run(600ms);
    EXPECT_TRUE(one.alive(1) && two.alive(0)) << one.history << " " << two.history;
    const auto again = one.ask(1, body_of("again"));
    fabric.settle();
    EXPECT_TRUE(answered(again, body_of("again")));
}

TEST(Channel, APeerMayWriteAnythingAtAnyTime) {
    std::mt19937 random(7);
    MemoryFabric fabric(3);
    Host one(fabric, 0, 100), two(fabric, 1, 200), three(fabric, 2, 300);
    fabric.settle();
    for (int round = 0; round < 300; ++round) {
        auto& area = fabric.memory[0]->areas[1];
        const auto random_word = [&] {
            uint64_t word = random() % 4 == 0 ? random() % 70000 : uint64_t{random()} << 32 | random();
            return random() % 2 == 0 ? word & ~uint64_t{7} : word;
        };
        for (int i = 0; i < 3; ++i) {
            const uint64_t word = random_word();
            const size_t header_or_ring =
                random() % 2 == 0 ? 8 * (random() % 8) : random() % (mailbox::area_bytes - 8);
            std::memcpy(area.bytes + header_or_ring, &word, 8);
        }
        signal(fabric.memory[0]->wake);
        const auto hostile = one.ask(1, body_of("to the hostile one"), 100ms);
        const auto honest = one.ask(2, body_of("to the honest one"));
        fabric.run(20ms);
        ASSERT_TRUE(answered(honest, body_of("to the honest one")));
    }
    fabric.run(3s);
    EXPECT_TRUE(one.alive(1));
    const auto again = one.ask(1, body_of("again"));
    fabric.settle();
    EXPECT_TRUE(answered(again, body_of("again")));
    EXPECT_EQ(one.history.find("2-"), std::string::npos);
    EXPECT_EQ(three.history, "0+1+");
}

TEST(Channel, APeerThatChangesItsIncarnationAllTheTimeCostsLittle) {
    MemoryFabric fabric(2);
    Host one(fabric, 0, 100), two(fabric, 1, 200);
    fabric.settle();
    const auto before = fabric.connects;
    for (uint64_t i = 1; i <= 1000; ++i) {
        testing::MemoryLink link(fabric, 1, fabric.memory[0]);
        ASSERT_TRUE(mailbox::store(link, mailbox::Identity{1000 + i, 0, 0}));
        signal(fabric.memory[0]->wake);
        fabric.settle();
    }
    EXPECT_LE(fabric.connects - before, 4u);
}

// Each half of an identity that another one replaces, as it is seen when 8 bytes are two accesses.
TEST(Mailbox, AnIdentityIsSeenWholeOrNotAtAll) {
    MemoryFabric fabric(2);
    const auto memory = std::make_shared<testing::HostMemory>();
    const std::span<std::byte> area(memory->areas[1].bytes);
    testing::MemoryLink link(fabric, 1, memory);
    EXPECT_FALSE(read_mailbox(area));
    const mailbox::Identity before{0x1111'1111'2222'2222, 0x3333'3333'4444'4444, 0x5555'5555'6666'6666};
    const mailbox::Identity after{0x1111'1112'2222'2223, 0x3333'3334'4444'4445, 0};
    ASSERT_TRUE(mailbox::store(link, before));
    ASSERT_TRUE(read_mailbox(area));
    EXPECT_EQ(read_mailbox(area)->wake, before.wake);
    for (const auto field :
         {mailbox::LongField::incarnation, mailbox::LongField::acknowledged, mailbox::LongField::wake})
        for (const uint64_t half : {0u, 4u}) {
            const uint64_t offset = static_cast<uint64_t>(field) + half;
            uint32_t word;
            std::memcpy(&word, area.data() + offset, 4);
            ASSERT_TRUE(link.store32(offset, ~word));
            EXPECT_FALSE(read_mailbox(area)) << offset;
            ASSERT_TRUE(link.store32(offset, word));
            EXPECT_TRUE(read_mailbox(area));
        }
    ASSERT_TRUE(mailbox::store(link, mailbox::Field::seal, 0));
    EXPECT_FALSE(read_mailbox(area));
    ASSERT_TRUE(mailbox::store(link, after));
    EXPECT_EQ(read_mailbox(area)->incarnation, after.incarnation);
}

TEST(Channel, AnIdleChannelWakesNobody) {
    MemoryFabric fabric(2);
    Host one(fabric, 0, 100), two(fabric, 1, 200);
    fabric.run(1s);
    const auto wakes = fabric.memory[0]->wakes + fabric.memory[1]->wakes;
    fabric.run(30s);
    EXPECT_EQ(fabric.memory[0]->wakes + fabric.memory[1]->wakes, wakes);
    EXPECT_TRUE(one.alive(1));
}

TEST(Channel, WhatIsOutstandingIsCancelledWhenItIsDestroyed) {
    MemoryFabric fabric(2);
    Host one(fabric, 0, 100), two(fabric, 1, 200);
    two.keep = true;
    fabric.settle();
    const auto sent = one.ask(1, {});
    fabric.settle();
    const auto submitted = one.ask(1, {});
    one.core.reset();
    EXPECT_EQ(code(sent), Errc::cancelled);
    EXPECT_EQ(code(submitted), Errc::cancelled);
    two.core.reset();
    two.kept.clear(); // replies may outlive the channel
    fabric.settle();
}

TEST(Channel, RefusesOptionsThatCannotWork) {
    MemoryFabric fabric(2);
    ChannelOptions options;
    options.peer_timeout = options.heartbeat_interval;
    EXPECT_EQ(ChannelCore::create(*fabric.loop, fabric.transport(0), {}, options, 1).error().code(),
              Errc::invalid_argument);
}

// ---- The own host

TEST(Channel, TheOwnHostIsServedByItself) {
    MemoryFabric fabric(2);
    Host host(fabric, 1, 100);
    EXPECT_TRUE(host.alive(1));
    EXPECT_TRUE(host.core->alive_peers().empty());
    const auto answer = host.ask(1, body_of("myself"));
    const auto large = host.ask(1, Body(max_channel_body_bytes + 1));
    EXPECT_FALSE(*answer); // never from inside request()
    fabric.settle();
    EXPECT_TRUE(answered(answer, body_of("myself")));
    EXPECT_EQ(code(large), Errc::invalid_argument);
    EXPECT_TRUE(host.last_from == Partition{1});
    EXPECT_EQ(host.last_kind, 7);
    EXPECT_EQ(host.history, "");
}

TEST(Channel, RequestsToTheOwnHostHaveTheSameLimits) {
    MemoryFabric fabric(1);
    ChannelOptions options;
    options.max_outstanding_requests = 2;
    Host host(fabric, 0, 100, options);
    host.keep = true;
    const auto late = host.ask(0, {}, 1s);
    const auto kept = host.ask(0, {}, 10s);
    const auto refused = host.ask(0, {});
    fabric.settle();
    EXPECT_EQ(code(refused), Errc::no_space);
    fabric.run(1100ms);
    EXPECT_EQ(code(late), Errc::timeout);
    const auto beyond = host.ask(0, {}); // two are still being served
    fabric.settle();
    EXPECT_EQ(code(beyond), Errc::no_space);
    host.kept[1](body_of("at last"));
    host.kept[0](body_of("too late"));
    fabric.settle();
    EXPECT_TRUE(answered(kept, body_of("at last")));
    host.kept.clear();
    const auto dropped = host.ask(0, {});
    fabric.settle();
    host.kept.clear();
    fabric.settle();
    EXPECT_EQ(code(dropped), Errc::cancelled);
    const auto oversized = host.ask(0, {});
    fabric.settle();
    host.kept[0](Body(max_channel_body_bytes + 1));
    fabric.settle();
    ASSERT_TRUE(*oversized);
    EXPECT_FALSE(**oversized);
}

} // namespace
} // namespace lanepool::ntb
