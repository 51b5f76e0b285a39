// SPDX-License-Identifier: Apache-2.0
//
// Programs of two hosts that use lanepool/smartio.h, the whole way: their sessions, their agents, the fabric.
#include "integration/application_hosts.h"
#include "lanepool/smartio.h"

#include <atomic>
#include <cstring>
#include <future>
#include <sys/mman.h>
#include <thread>

namespace lanepool::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds patience{20};

// What a callback says and a test waits for.
template <class T>
class Said {
  public:
    void operator()(T value) {
        const std::lock_guard lock(mutex_);
        if (!std::exchange(said_, true)) promise_.set_value(std::move(value));
    }
    T wait() {
        auto future = promise_.get_future();
        EXPECT_EQ(future.wait_for(patience), std::future_status::ready) << "nothing was said";
        return future.wait_for(seconds(0)) == std::future_status::ready ? future.get() : T{};
    }

  private:
    std::mutex mutex_;
    bool said_ = false;
    std::promise<T> promise_;
};

class Sessions : public testing::Test {
  protected:
    Sessions() : fabric(folder, 3), a(fabric, folder, 0), b(fabric, folder, 1) {}
    void SetUp() override {
        ASSERT_TRUE(eventually([&] { return a.sees(b) && b.sees(a); }));
        a_counts = a.counts();
        b_counts = b.counts();
        on_a = must(Session::open({.socket = a.socket()}));
        on_b = must(Session::open({.socket = b.socket()}));
    }
    void TearDown() override {
        on_a.reset();
        on_b.reset();
        EXPECT_TRUE(eventually([&] { return a.counts() == a_counts; })) << a.counts() << a_counts;
        EXPECT_TRUE(eventually([&] { return b.counts() == b_counts; })) << b.counts() << b_counts;
    }
    // A segment of a program of A that everybody can connect.
    Segment shown(uint32_t id, SegmentOptions options = {}) {
        options.id = id;
        if (!options.size_bytes) options.size_bytes = 8192;
        auto segment = must(Segment::create(*on_a, std::move(options)));
        EXPECT_TRUE(segment.set_available(true));
        return segment;
    }

    TemporaryFolder folder;
    Fabric fabric;
    ApplicationHost a, b;
    Json a_counts, b_counts;
    std::optional<Session> on_a, on_b;
};

template <class T>
Errc code(const Result<T>& result) {
    EXPECT_FALSE(result) << "it should have failed";
    return result ? Errc::internal : result.error().code();
}

TEST_F(Sessions, KnowEachOthersHosts) {
    EXPECT_EQ(on_a->node(), a.node());
    EXPECT_EQ(on_b->node(), b.node());
    const auto nodes = must(on_a->nodes());
    const auto alive = [&](uint64_t node) {
        return std::ranges::any_of(nodes, [&](const Node& n) { return n.number == node && n.alive; });
    };
    EXPECT_TRUE(alive(a.node()) && alive(b.node()));
    EXPECT_TRUE(on_a->probe(on_b->node()));
    EXPECT_EQ(code(on_a->probe(2)), Errc::unavailable);
    EXPECT_EQ(code(on_a->probe(200)), Errc::not_found);
}

TEST_F(Sessions, PlayPingPongThroughTheirSegments) {
    auto mine = shown(4);
    auto theirs = must(Segment::create(*on_b, {.size_bytes = 4096, .id = 5}));
    ASSERT_TRUE(theirs.set_available(true));
    const auto to_b = must(must(RemoteSegment::connect(*on_a, on_b->node(), 5, patience)).map());
    const auto remote = must(RemoteSegment::connect(*on_b, on_a->node(), 4, patience));
    EXPECT_EQ(remote.size_bytes(), 8192u);
    const auto to_a = must(remote.map({.offset_bytes = 4096}));
    const auto word = [](std::byte* at) { return std::atomic_ref(*reinterpret_cast<uint64_t*>(at)); };
    constexpr uint64_t rounds = 100;
    const auto give_up = std::chrono::steady_clock::now() + patience;
    const auto await = [&](std::byte* at, uint64_t value) {
        while (word(at).load(std::memory_order_acquire) != value) {
            if (std::chrono::steady_clock::now() > give_up) return false;
            std::this_thread::yield();
        }
        return true;
    };
    std::thread answers([&] {
        for (uint64_t i = 1; i <= rounds && await(theirs.bytes().data(), i); ++i)
            word(to_a.data()).store(i, std::memory_order_release);
    });
    for (uint64_t i = 1; i <= rounds; ++i) {
        word(to_b.data()).store(i, std::memory_order_release);
        EXPECT_TRUE(await(mine.bytes().data() + 4096, i));
    }
    answers.join();
}

TEST_F(Sessions, ShareMemoryThatAProgramHadAlready) {
    auto* const address = ::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(address, MAP_FAILED);
    const std::span memory(static_cast<std::byte*>(address), 8192);
    memory[5000] = std::byte{7};
    {
        auto segment = must(Segment::create_around(*on_a, memory, {.id = 6}));
        ASSERT_TRUE(segment.set_available(true));
        const auto view = must(must(RemoteSegment::connect(*on_b, on_a->node(), 6, patience)).map());
        EXPECT_EQ(view.data()[5000], std::byte{7});
        view.data()[5001] = std::byte{8};
        EXPECT_EQ(memory[5001], std::byte{8});
    }
    EXPECT_EQ(memory[5001], std::byte{8});
    ::munmap(address, 8192);
}

TEST_F(Sessions, WaitForASegmentThatComesLater) {
    EXPECT_EQ(code(RemoteSegment::connect(*on_b, on_a->node(), 4, milliseconds(0))), Errc::not_found);
    auto segment = must(Segment::create(*on_a, {.size_bytes = 4096, .id = 4}));
    EXPECT_EQ(code(RemoteSegment::connect(*on_b, on_a->node(), 4, milliseconds(0))), Errc::not_found);
    auto waits = std::async([&] { return RemoteSegment::connect(*on_b, on_a->node(), 4, patience); });
    ASSERT_TRUE(segment.set_available(true));
    EXPECT_TRUE(waits.get());
    EXPECT_EQ(code(RemoteSegment::connect(*on_b, 2, 4, milliseconds(0))), Errc::unavailable);
}

TEST_F(Sessions, TellWhoConnectsAndRefuseToRemoveMeanwhile) {
    Said<uint32_t> came, went;
    auto segment = shown(4, {.on_connected = [&](uint32_t node) { came(node); },
                             .on_disconnected = [&](uint32_t node) { went(node); }});
    {
        auto remote = must(RemoteSegment::connect(*on_b, on_a->node(), 4, patience));
        EXPECT_EQ(came.wait(), on_b->node());
        EXPECT_EQ(code(segment.remove()), Errc::busy);
        EXPECT_EQ(code(segment.set_available(false)), Errc::busy);
        EXPECT_EQ(code(Segment::create(*on_a, {.size_bytes = 4096, .id = 4})), Errc::already_exists);
    }
    EXPECT_EQ(went.wait(), on_b->node());
    EXPECT_TRUE(segment.remove());
}

TEST_F(Sessions, KeepNothingOfASegmentThatItsOwnerTakesAway) {
    Said<Errc> lost;
    std::optional<Segment> segment = shown(4);
    const auto remote = must(RemoteSegment::connect(
        *on_b, on_a->node(), 4, patience, {.on_lost = [&](const Error& why) { lost(why.code()); }}));
    const auto view = must(remote.map());
    segment.reset();
    EXPECT_EQ(lost.wait(), Errc::disconnected);
    view.data()[0] = std::byte{1}; // harms nobody
    auto again = shown(4);         // the id is free again
    EXPECT_EQ(again.bytes()[0], std::byte{0});
}

TEST_F(Sessions, AreToldThatAHostHasDied) {
    Said<Errc> segment_lost, interrupt_lost, session_lost;
    auto other = must(Session::open(
        {.socket = a.socket(), .on_lost = [&](const Error& why) { session_lost(why.code()); }}));
    auto segment = shown(4);
    auto interrupt = must(Interrupt::create(*on_a, {.number = 4}));
    const auto remote = must(RemoteSegment::connect(
        *on_b, on_a->node(), 4, patience, {.on_lost = [&](const Error& why) { segment_lost(why.code()); }}));
    auto trigger =
        must(RemoteInterrupt::connect(*on_b, on_a->node(), 4, patience,
                                      {.on_lost = [&](const Error& why) { interrupt_lost(why.code()); }}));
    const auto view = must(remote.map());
    a.die();
    EXPECT_EQ(session_lost.wait(), Errc::disconnected);
    EXPECT_EQ(segment_lost.wait(), Errc::disconnected);
    EXPECT_EQ(interrupt_lost.wait(), Errc::disconnected);
    EXPECT_EQ(code(trigger.trigger()), Errc::disconnected);
    EXPECT_EQ(code(interrupt.wait(milliseconds(0))), Errc::disconnected);
    view.data()[0] = std::byte{1};
    segment.bytes()[0] = std::byte{2};
    a.start();
    EXPECT_TRUE(eventually([&] { return a.sees(b) && b.sees(a); }));
}

TEST_F(Sessions, InterruptEachOther) {
    auto here = must(Interrupt::create(*on_a, {.number = 4}));
    auto there = must(Interrupt::create(*on_b));
    auto to_b = must(RemoteInterrupt::connect(*on_a, on_b->node(), there.number(), patience));
    auto to_a = must(RemoteInterrupt::connect(*on_b, on_a->node(), 4, patience));
    std::thread answers([&] {
        for (int i = 0; i < 50; ++i) {
            EXPECT_TRUE(there.wait(patience));
            EXPECT_TRUE(to_a.trigger());
        }
    });
    for (int i = 0; i < 50; ++i) {
        EXPECT_TRUE(to_b.trigger());
        EXPECT_EQ(must(here.wait(patience)), 1u);
    }
    answers.join();
    EXPECT_EQ(code(here.remove()), Errc::busy);
    EXPECT_EQ(code(RemoteDataInterrupt::connect(*on_b, on_a->node(), 4, milliseconds(0))),
              Errc::failed_precondition); // it is one without data
    ASSERT_TRUE(to_a.disconnect());
    EXPECT_TRUE(eventually([&] { return here.remove().has_value(); }));
}

TEST_F(Sessions, SendEachOtherMessages) {
    constexpr int count = 300;
    std::promise<void> all;
    int heard = 0, wrong = 0; // on the event thread only, until all has come
    auto interrupt = must(DataInterrupt::create(
        *on_a, {.number = 4, .on_message = [&](std::span<const std::byte> data) {
                    const std::string text(reinterpret_cast<const char*>(data.data()), data.size());
                    if (text != std::to_string(heard)) ++wrong;
                    if (++heard == count) all.set_value();
                }}));
    auto remote = must(RemoteDataInterrupt::connect(*on_b, on_a->node(), 4, patience));
    for (int i = 0; i < count; ++i) {
        const std::string text = std::to_string(i);
        ASSERT_TRUE(remote.send(std::as_bytes(std::span(text))));
    }
    ASSERT_EQ(all.get_future().wait_for(patience), std::future_status::ready);
    EXPECT_EQ(wrong, 0);
}

TEST_F(Sessions, GetWhatWasSentBeforeTheSenderWent) {
    auto interrupt = must(DataInterrupt::create(*on_a, {.number = 4}));
    {
        auto remote = must(RemoteDataInterrupt::connect(*on_b, on_a->node(), 4, patience));
        ASSERT_TRUE(remote.send(std::as_bytes(std::span("farewell", 8))));
    }
    std::array<std::byte, max_interrupt_bytes> buffer;
    ASSERT_EQ(must(interrupt.wait(buffer, patience)), 8u);
    EXPECT_EQ(std::memcmp(buffer.data(), "farewell", 8), 0);
}

TEST_F(Sessions, OfOneHostUseTheSameWays) {
    auto other = must(Session::open({.socket = a.socket()}));
    auto segment = shown(4);
    const auto view = must(must(RemoteSegment::connect(other, on_a->node(), 4, patience)).map());
    view.data()[1] = std::byte{9};
    EXPECT_EQ(segment.bytes()[1], std::byte{9});
    auto interrupt = must(Interrupt::create(other));
    auto trigger = must(RemoteInterrupt::connect(*on_a, on_a->node(), interrupt.number(), patience));
    ASSERT_TRUE(trigger.trigger());
    EXPECT_TRUE(interrupt.wait(patience));
}

} // namespace
} // namespace lanepool::test
