// SPDX-License-Identifier: Apache-2.0
#include "lanepool/segment.h"
#include "lanepool/test_agent.h"

#include <cstring>
#include <fstream>
#include <sys/mman.h>

namespace lanepool {
namespace {

using std::chrono::milliseconds;

class RemoteTest : public testing::Test {
  protected:
    // Memory of 16 pages; the first byte of each says which it is.
    RemoteTest()
        : memory(*create_memory("remote", 16 * 4096)), whole(*Mapping::create(memory.get(), 0, 16 * 4096)) {
        for (size_t i = 0; i < 16; ++i)
            whole.data()[i * 4096] = std::byte{static_cast<uint8_t>(i)};
    }
    struct Extent {
        uint64_t offset, size, fd_offset;
    };
    static Json list_of(const std::vector<Extent>& extents) {
        Json list = Json::array();
        for (const Extent& e : extents)
            list.push_back({{"offset", e.offset}, {"size", e.size}, {"fd_offset", e.fd_offset}});
        return list;
    }
    void answer(uint64_t size, const Json& list) {
        const std::vector<int> fds(list.size(), memory.get());
        agent.on("segment_connect", {{"connection", 5}, {"size", size}, {"extents", list}}, fds);
    }
    void answer(uint64_t size, const std::vector<Extent>& extents) { answer(size, list_of(extents)); }
    Result<RemoteSegment> connect(RemoteSegmentOptions options = {}) {
        return RemoteSegment::connect(session, 2, 4, milliseconds(30), std::move(options));
    }
    // How many mappings of the memory this process has.
    static int mapped() {
        std::ifstream maps("/proc/self/maps");
        int count = 0;
        for (std::string line; std::getline(maps, line);)
            count += line.find("memfd:remote") != std::string::npos;
        return count;
    }

    UniqueFd memory;
    Mapping whole;
    TestAgent agent;
    Session session = *Session::open(agent.options());
};

TEST_F(RemoteTest, IsTheMemoryOfTheOther) {
    answer(8192, {Extent{0, 8192, 4096}});
    auto remote = connect();
    ASSERT_TRUE(remote) << remote.error().message();
    const auto call = agent.next("segment_connect");
    EXPECT_EQ(call["node"], 2);
    EXPECT_EQ(call["segment_id"], 4);
    EXPECT_EQ(call["timeout_ms"], 30);
    EXPECT_EQ(remote->size_bytes(), 8192u);
    EXPECT_TRUE(remote->mappable());
    const auto view = remote->map();
    ASSERT_TRUE(view) << view.error().message();
    const std::array<std::byte, 3> data{std::byte{7}, std::byte{8}, std::byte{9}};
    ASSERT_TRUE(view->copy_to(4095, data));
    EXPECT_EQ(whole.data()[8193], std::byte{9});
    std::array<std::byte, 3> back{};
    ASSERT_TRUE(view->copy_from(4095, back));
    EXPECT_EQ(back, data);
    EXPECT_EQ(code(view->copy_to(8190, data)), Errc::out_of_range);
    EXPECT_EQ(code(view->copy_from(UINT64_MAX, back)), Errc::out_of_range);
}

TEST_F(RemoteTest, PiecesLieSideBySide) {
    answer(5 * 4096, {Extent{0, 4096, 9 * 4096}, Extent{4096, 8192, 0}, Extent{3 * 4096, 8192, 4 * 4096}});
    auto remote = *connect();
    const auto view = remote.map();
    ASSERT_TRUE(view) << view.error().message();
    const std::array<int, 5> pages = {9, 0, 1, 4, 5};
    for (size_t i = 0; i < pages.size(); ++i)
        EXPECT_EQ(std::to_integer<int>(view->data()[i * 4096]), pages[i]);
    // A part over the border of two, read-only.
    const auto part =
        remote.map({.offset_bytes = 2 * 4096 - 8, .size_bytes = 4096 + 16, .access = Access::read_only});
    ASSERT_TRUE(part) << part.error().message();
    EXPECT_EQ(part->size_bytes(), 4112u);
    EXPECT_EQ(std::to_integer<int>(part->data()[8]), 1);
    EXPECT_EQ(std::to_integer<int>(part->data()[8 + 4096]), 4);
}

TEST_F(RemoteTest, PlacesWithoutMemoryAreNotMapped) {
    answer(4 * 4096, {Extent{0, 4096, 0}, Extent{8192, 4096, 4096}, Extent{3 * 4096, 2048, 8192}});
    auto remote = *connect();
    EXPECT_FALSE(remote.mappable());
    EXPECT_EQ(code(remote.map()), Errc::not_supported);
    EXPECT_EQ(code(remote.map({.offset_bytes = 4000, .size_bytes = 200})), Errc::not_supported);
    EXPECT_EQ(code(remote.map({.offset_bytes = 3 * 4096, .size_bytes = 4096})), Errc::not_supported);
    EXPECT_EQ(mapped(), 1);
    EXPECT_EQ(std::to_integer<int>(remote.map({.offset_bytes = 8192, .size_bytes = 4096})->data()[0]), 1);
}

TEST_F(RemoteTest, PiecesThatDoNotFitIntoPagesAreNotMapped) {
    answer(8192, {Extent{0, 100, 0}, Extent{100, 8092, 4196}}); // congruent, but inside of a page
    EXPECT_EQ(code(connect()->map()), Errc::not_supported);
    answer(4096, {Extent{0, 4096, 8}});
    EXPECT_EQ(code(connect()->map()), Errc::not_supported);
    EXPECT_EQ(mapped(), 1);
}

TEST_F(RemoteTest, WhatCannotBeIsNeverMapped) {
    const std::vector<std::pair<uint64_t, std::vector<Extent>>> hostile = {
        {0, {Extent{0, 4096, 0}}},
        {uint64_t{1} << 63, {Extent{0, 4096, 0}}},
        {4096, {Extent{0, 8192, 0}}},                           // more than there is
        {4096, {Extent{4096, 4096, 0}}},                        // behind it
        {4096, {Extent{0, 0, 0}}},                              // nothing
        {8192, {Extent{0, 4096, 0}, Extent{0, 4096, 4096}}},    // twice the same place
        {8192, {Extent{4096, 4096, 0}, Extent{0, 4096, 4096}}}, // backwards
        {4096, {Extent{0, 4096, 16 * 4096}}},                   // behind the end of the memory
        {17 * 4096, {Extent{0, 17 * 4096, 0}}},                 // over it
        {4096, {Extent{UINT64_MAX - 4095, 4096, 0}}},           // sums that wrap
        {4096, {Extent{0, UINT64_MAX, 0}}},
        {4096, {Extent{0, 4096, UINT64_MAX - 4095}}},
    };
    for (const auto& [size, extents] : hostile) {
        answer(size, extents);
        EXPECT_EQ(code(connect()), Errc::protocol) << size << " " << list_of(extents);
        EXPECT_EQ(agent.next("disconnect")["connection"], 5); // and given back
    }
    for (const char* list : {"[7]", "[{\"offset\": 0, \"size\": 4096}]"}) {
        answer(4096, Json::parse(list));
        EXPECT_EQ(code(connect()), Errc::protocol) << list;
    }
    EXPECT_EQ(mapped(), 1);
}

TEST_F(RemoteTest, DescriptorsMustBeThere) {
    const Json extents = list_of({{0, 4096, 0}});
    for (const std::vector<int>& fds : {std::vector<int>{}, {memory.get(), memory.get()}}) {
        agent.on("segment_connect", {{"connection", 5}, {"size", 4096}, {"extents", extents}}, fds);
        EXPECT_EQ(code(connect()), Errc::protocol);
    }
    agent.on("segment_connect", {{"connection", 5}, {"size", 4096}, {"extents", 5}});
    EXPECT_EQ(code(connect()), Errc::protocol);
}

TEST_F(RemoteTest, MemoryThatCouldBeCutOffIsNotTaken) {
    const UniqueFd shrinks(::memfd_create("remote", MFD_ALLOW_SEALING));
    ASSERT_EQ(::ftruncate(shrinks.get(), 8192), 0);
    agent.on("segment_connect", {{"connection", 5}, {"size", 4096}, {"extents", list_of({{0, 4096, 0}})}},
             {shrinks.get()});
    EXPECT_EQ(code(connect()), Errc::protocol);
}

TEST_F(RemoteTest, SaysWhatTheAgentSays) {
    agent.refuse("segment_connect", Errc::not_found);
    EXPECT_EQ(code(connect()), Errc::not_found);
}

TEST_F(RemoteTest, DisconnectsUnlessBusy) {
    answer(4096, {Extent{0, 4096, 0}});
    auto remote = *connect();
    const auto view = *remote.map();
    agent.refuse("disconnect", Errc::busy);
    EXPECT_EQ(code(remote.disconnect()), Errc::busy);
    agent.on("disconnect", Json::object());
    EXPECT_TRUE(remote.disconnect());
    EXPECT_EQ(code(remote.disconnect()), Errc::failed_precondition);
    EXPECT_EQ(code(remote.map()), Errc::failed_precondition);
    EXPECT_EQ(std::to_integer<int>(view.data()[0]), 0); // mappings stay
}

TEST_F(RemoteTest, ItsLossIsToldOnce) {
    answer(4096, {Extent{0, 4096, 0}});
    Heard<std::string> heard;
    auto remote = *connect({.on_lost = [&](const Error& why) {
        EXPECT_EQ(why.code(), Errc::disconnected);
        heard.say(why.message());
    }});
    agent.say({{"event", "connection_lost"}, {"connection", 5}, {"reason", "h2 has died"}});
    EXPECT_EQ(heard.next(), "h2 has died");
    agent.refuse("disconnect", Errc::not_found); // the agent has forgotten it: that is no error
    EXPECT_TRUE(remote.disconnect());
    agent.say({{"event", "connection_lost"}, {"connection", 5}, {"reason", "again"}});
    EXPECT_TRUE(session.probe(2));
    EXPECT_EQ(heard.count(), 1u);
}

TEST_F(RemoteTest, ALossRightBehindTheAnswerIsHeard) {
    agent.on("segment_connect", [this](const session::Message& call) {
        agent.say({{"id", call.body["id"]},
                   {"ok", true},
                   {"connection", 5},
                   {"size", 4096},
                   {"extents", list_of({{0, 4096, 0}})}},
                  {memory.get()});
        agent.say({{"event", "connection_lost"}, {"connection", 5}, {"reason", "at once"}});
        return TestAgent::Reply{.silent = true};
    });
    Heard<std::string> heard;
    const auto remote = connect({.on_lost = [&](const Error& why) { heard.say(why.message()); }});
    ASSERT_TRUE(remote);
    EXPECT_EQ(heard.next(), "at once");
}

} // namespace
} // namespace lanepool
