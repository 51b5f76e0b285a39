// SPDX-License-Identifier: Apache-2.0
#include "lanepool/segment.h"

#include "lanepool/test_agent.h"

#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>

namespace lanepool {
namespace {

using std::chrono::milliseconds;

// The program's own pages.
struct Pages {
    explicit Pages(size_t count, int protection = PROT_READ | PROT_WRITE)
        : bytes(static_cast<std::byte*>(
                    ::mmap(nullptr, count * 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)),
                count * 4096) {}
    ~Pages() { ::munmap(bytes.data(), bytes.size()); }
    std::span<std::byte> bytes;
};

class SegmentTest : public testing::Test {
  protected:
    SegmentTest() {
        agent.on("segment_create", [this](const session::Message& call) -> TestAgent::Reply {
            if (!call.fds.empty()) take(call);
            return {{{"segment", 1}, {"segment_id", call.body.value("segment_id", 40)}}};
        });
        agent.on("segment_attach", [this](const session::Message& call) -> TestAgent::Reply {
            take(call);
            return {};
        });
    }
    // What the agent has of the memory: what anybody else sees.
    void take(const session::Message& call) {
        EXPECT_EQ(call.fds.size(), 1u);
        EXPECT_TRUE(::fcntl(call.fds[0].get(), F_GET_SEALS) & F_SEAL_SHRINK);
        theirs = *Mapping::create(call.fds[0].get(), 0, 4096);
    }

    TestAgent agent;
    Mapping theirs;
    Session session = *Session::open(agent.options());
};

TEST_F(SegmentTest, IsSharedMemory) {
    auto segment = Segment::create(session, {.size_bytes = 5000, .id = 4});
    ASSERT_TRUE(segment) << segment.error().message();
    EXPECT_EQ(segment->id(), 4u);
    EXPECT_EQ(segment->node(), 1u);
    EXPECT_EQ(segment->size_bytes(), 8192u); // whole pages
    EXPECT_EQ(agent.next("segment_create")["size"], 8192);
    segment->bytes()[100] = std::byte{7};
    EXPECT_EQ(theirs.data()[100], std::byte{7});
    EXPECT_EQ(*Segment::create(session, {.size_bytes = 1})->map({.size_bytes = 1})->data(), std::byte{0});
}

TEST_F(SegmentTest, SaysWhatTheAgentSays) {
    agent.refuse("segment_create", Errc::already_exists);
    EXPECT_EQ(code(Segment::create(session, {.size_bytes = 4096, .id = 4})), Errc::already_exists);
    EXPECT_EQ(code(Segment::create(session, {.size_bytes = 0})), Errc::invalid_argument);
    EXPECT_EQ(code(Segment::create(session, {.size_bytes = uint64_t{1} << 62})), Errc::invalid_argument);
}

TEST_F(SegmentTest, IsRemovedWhenNobodyUsesIt) {
    auto segment = *Segment::create(session, {.size_bytes = 4096});
    ASSERT_TRUE(segment.set_available(true));
    EXPECT_EQ(agent.next("segment_available")["available"], true);
    agent.refuse("segment_remove", Errc::busy);
    EXPECT_EQ(code(segment.remove()), Errc::busy);
    EXPECT_FALSE(agent.next("segment_remove").contains("force"));
    EXPECT_TRUE(segment.set_available(true)); // as before
    agent.on("segment_remove", Json::object());
    EXPECT_TRUE(segment.remove());
    EXPECT_EQ(code(segment.remove()), Errc::failed_precondition);
    EXPECT_EQ(code(segment.set_available(true)), Errc::failed_precondition);
    EXPECT_EQ(code(segment.map()), Errc::failed_precondition);
    EXPECT_TRUE(segment.bytes().empty());
}

TEST_F(SegmentTest, ItsDestructorAsksNobody) {
    { auto segment = *Segment::create(session, {.size_bytes = 4096}); }
    EXPECT_EQ(agent.next("segment_remove")["force"], true);
}

TEST_F(SegmentTest, OneThatIsReplacedIsGivenBack) {
    auto segment = *Segment::create(session, {.size_bytes = 4096, .id = 1});
    segment = *Segment::create(session, {.size_bytes = 4096, .id = 2});
    EXPECT_EQ(agent.count("segment_remove"), 1u);
    EXPECT_EQ(segment.id(), 2u);
}

TEST_F(SegmentTest, ConnectionsAreTold) {
    Heard<std::pair<bool, uint32_t>> heard;
    auto segment = *Segment::create(session, {.size_bytes = 4096,
                                              .on_connected =
                                                  [&](uint32_t node) {
                                                      heard.say({true, node});
                                                  },
                                              .on_disconnected =
                                                  [&](uint32_t node) {
                                                      heard.say({false, node});
                                                  }});
    agent.say({{"event", "segment_connected"}, {"segment", 1}, {"node", 5}});
    agent.say({{"event", "segment_disconnected"}, {"segment", 1}, {"node", 5}});
    EXPECT_EQ(heard.next(), std::pair(true, 5u));
    EXPECT_EQ(heard.next(), std::pair(false, 5u));
}

TEST_F(SegmentTest, MemoryOfTheProgramKeepsItsPlaceAndContent) {
    const Pages pages(4);
    auto* const word = reinterpret_cast<uint64_t*>(pages.bytes.data() + 4096);
    *word = 42;
    {
        auto segment = Segment::create_around(session, pages.bytes.subspan(4096, 8192));
        ASSERT_TRUE(segment) << segment.error().message();
        EXPECT_EQ(segment->bytes().data(), pages.bytes.data() + 4096);
        EXPECT_EQ(*word, 42u);
        EXPECT_EQ(theirs.data()[0], std::byte{42});
        theirs.data()[0] = std::byte{43};
        EXPECT_EQ(*word, 43u);
    }
    EXPECT_EQ(*word, 43u);
    theirs.data()[0] = std::byte{44}; // who kept it reaches it no more
    EXPECT_EQ(*word, 43u);
    *word = 45;
    EXPECT_TRUE(Segment::create_around(session, pages.bytes)); // it may be one again
}

TEST_F(SegmentTest, MemoryThatCannotMoveIsRefused) {
    const Pages pages(2), read_only(1, PROT_READ), none(1, PROT_NONE);
    EXPECT_EQ(code(Segment::create_around(session, pages.bytes.subspan(1, 4096))), Errc::invalid_argument);
    EXPECT_EQ(code(Segment::create_around(session, pages.bytes.first(5000))), Errc::invalid_argument);
    EXPECT_EQ(code(Segment::create_around(session, {})), Errc::invalid_argument);
    EXPECT_EQ(code(Segment::create_around(session, read_only.bytes)), Errc::out_of_range);
    EXPECT_EQ(code(Segment::create_around(session, none.bytes)), Errc::out_of_range);
    auto segment = *Segment::create_around(session, pages.bytes.first(4096));
    EXPECT_EQ(code(Segment::create_around(session, pages.bytes)), Errc::already_exists);
    EXPECT_EQ(code(Segment::create_around(session, segment.bytes())), Errc::already_exists);
    const auto made = *Segment::create(session, {.size_bytes = 8192});
    EXPECT_EQ(code(Segment::create_around(session, made.bytes().subspan(4096))), Errc::already_exists);
    EXPECT_TRUE(Segment::create_around(session, pages.bytes.subspan(4096)));
}

TEST_F(SegmentTest, OneThatTheAgentRefusesLeavesTheMemory) {
    const Pages pages(1);
    pages.bytes[9] = std::byte{9};
    agent.on("segment_create", [this](const session::Message& call) -> TestAgent::Reply {
        take(call);
        return {{{"ok", false}, {"code", "no_space"}, {"error", "full"}}};
    });
    EXPECT_EQ(code(Segment::create_around(session, pages.bytes)), Errc::no_space);
    theirs.data()[9] = std::byte{1};
    EXPECT_EQ(pages.bytes[9], std::byte{9});
}

TEST_F(SegmentTest, AnEmptyOneGetsMemoryLater) {
    const Pages pages(2);
    auto segment = *Segment::create(session, {.size_bytes = 4096, .empty = true});
    EXPECT_TRUE(segment.bytes().empty());
    EXPECT_EQ(code(segment.set_available(true)), Errc::failed_precondition);
    EXPECT_EQ(code(segment.attach(pages.bytes.first(100))), Errc::invalid_argument);
    ASSERT_TRUE(segment.attach(pages.bytes));
    EXPECT_EQ(segment.bytes().size(), 4096u);
    pages.bytes[3] = std::byte{3};
    EXPECT_EQ(theirs.data()[3], std::byte{3});
    EXPECT_EQ(code(segment.attach()), Errc::failed_precondition);
    EXPECT_TRUE(segment.set_available(true));
}

TEST_F(SegmentTest, CanBeMappedOnceMore) {
    auto segment = *Segment::create(session, {.size_bytes = 8192});
    segment.bytes()[4100] = std::byte{1};
    auto view = segment.map({.offset_bytes = 4100, .size_bytes = 4, .access = Access::read_only});
    ASSERT_TRUE(view) << view.error().message();
    EXPECT_EQ(view->data()[0], std::byte{1});
    EXPECT_EQ(code(view->copy_to(0, std::array<std::byte, 1>{})), Errc::permission_denied);
    EXPECT_EQ(code(segment.map({.offset_bytes = 8192})), Errc::out_of_range);
    EXPECT_EQ(code(segment.map({.offset_bytes = 4096, .size_bytes = 4097})), Errc::out_of_range);
    EXPECT_EQ(code(segment.map({.offset_bytes = UINT64_MAX - 1, .size_bytes = 4})), Errc::out_of_range);
    // At a place of the caller's, which must be free.
    EXPECT_EQ(code(segment.map({.address = segment.bytes().data()})), Errc::already_exists);
    std::byte* place = nullptr;
    { place = Pages(2).bytes.data(); }
    EXPECT_EQ(segment.map({.address = place})->data(), place);
    EXPECT_EQ(code(segment.map({.address = place + 1})), Errc::invalid_argument);
}

} // namespace
} // namespace lanepool
