// SPDX-License-Identifier: Apache-2.0
#include "lanepool/session.h"

#include "lanepool/interrupt.h"
#include "lanepool/segment.h"
#include "lanepool/test_agent.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace lanepool {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(Session, KnowsWhereItIs) {
    TestAgent agent;
    const auto session = Session::open(agent.options());
    ASSERT_TRUE(session) << session.error().message();
    EXPECT_EQ(session->node(), 1u);
    EXPECT_EQ(session->host(), "h1");
    EXPECT_EQ(session->user(), "me@h1");
    EXPECT_EQ(*session::get_number(agent.next("hello"), "version"), 1u);
}

TEST(Session, FindsTheAgentByTheEnvironment) {
    TestAgent agent;
    ::setenv("LANEPOOL_AGENT", agent.path().c_str(), 1);
    EXPECT_TRUE(Session::open());
    ::unsetenv("LANEPOOL_AGENT");
}

TEST(Session, SaysThatThereIsNoAgent) {
    EXPECT_EQ(code(Session::open({.socket = "/nonexistent/agent.sock"})), Errc::not_found);
}

TEST(Session, RefusesAnAgentOfAnotherVersion) {
    TestAgent agent;
    agent.on("hello", {{"version", 2}, {"host", "h1"}, {"node", 1}, {"user", "me@h1"}});
    EXPECT_EQ(code(Session::open(agent.options())), Errc::not_supported);
}

TEST(Session, AnswersOfTheAgentReachTheCaller) {
    TestAgent agent;
    auto session = *Session::open(agent.options());
    agent.on("nodes", {{"nodes", {{{"node", 1}, {"alive", true}}, {{"node", 7}, {"alive", false}}}}});
    const auto nodes = session.nodes();
    ASSERT_TRUE(nodes);
    ASSERT_EQ(nodes->size(), 2u);
    EXPECT_EQ((*nodes)[1].number, 7u);
    EXPECT_FALSE((*nodes)[1].alive);
    EXPECT_TRUE(session.probe(1));
    agent.refuse("probe", Errc::unavailable);
    EXPECT_EQ(code(session.probe(7)), Errc::unavailable);
    agent.on("probe", {{"ok", false}, {"code", "of_tomorrow"}, {"error", "new"}});
    EXPECT_EQ(code(session.probe(7)), Errc::internal);
}

TEST(Session, ManyThreadsGetTheirOwnAnswers) {
    TestAgent agent;
    auto session = *Session::open(agent.options());
    agent.on("probe", [](const session::Message& call) -> TestAgent::Reply {
        if (call.body["node"].get<int>() % 2) return {};
        return {{{"ok", false}, {"code", "not_found"}, {"error", "even"}}};
    });
    std::atomic<int> wrong = 0;
    std::vector<std::thread> threads;
    for (uint32_t t = 0; t < 4; ++t)
        threads.emplace_back([&, t] {
            for (uint32_t i = 0; i < 100; ++i)
                if (session.probe(t + i).has_value() != ((t + i) % 2 == 1)) ++wrong;
        });
    for (auto& thread : threads)
        thread.join();
    EXPECT_EQ(wrong, 0);
}

TEST(Session, ASilentAgentCostsOnlyTheDeadline) {
    TestAgent agent;
    auto options = agent.options();
    options.call_timeout = milliseconds(300);
    auto session = *Session::open(options);
    agent.ignore("probe");
    EXPECT_EQ(code(session.probe(2)), Errc::timeout);
    agent.on("probe", Json::object());
    EXPECT_TRUE(session.probe(2));
}

TEST(Session, WhatALateAnswerMadeIsGivenBack) {
    TestAgent agent;
    auto options = agent.options();
    options.call_timeout = milliseconds(300);
    auto session = *Session::open(options);
    agent.ignore("segment_connect");
    EXPECT_EQ(code(RemoteSegment::connect(session, 2, 4, milliseconds(0))), Errc::timeout);
    agent.say({{"id", agent.next("segment_connect")["id"]}, {"ok", true}, {"connection", 77}});
    EXPECT_EQ(agent.next("disconnect")["connection"], 77);
    EXPECT_TRUE(session.probe(2)); // and nobody minds its answer
}

TEST(Session, AnAgentThatTalksNonsenseIsLeft) {
    const std::vector<Json> nonsense = {
        {{"id", 99}, {"ok", true}}, // nobody has asked
        {{"ok", true}},
        {{"id", "x"}, {"ok", true}},
        {{"id", 2}},
        {{"id", 2}, {"ok", 1}},
        {{"id", 2}, {"ok", false}},
        {{"event", 7}},
    };
    for (const Json& message : nonsense) {
        TestAgent agent;
        Heard<Errc> lost;
        auto options = agent.options();
        options.on_lost = [&](const Error& why) { lost.say(why.code()); };
        auto session = *Session::open(options);
        agent.ignore("probe");
        std::thread says([&] {
            agent.next("probe");
            agent.say(message);
        });
        EXPECT_EQ(code(session.probe(2)), Errc::disconnected) << message;
        says.join();
        EXPECT_EQ(lost.next(), Errc::disconnected);
    }
}

TEST(Session, EventsAboutWhatIsNotThereAreNothing) {
    TestAgent agent;
    auto session = *Session::open(agent.options());
    agent.say({{"event", "connection_lost"}, {"connection", 5}, {"reason", "gone"}});
    agent.say({{"event", "of_tomorrow"}, {"thing", 5}});
    EXPECT_TRUE(session.probe(2));
}

TEST(Session, TheAgentsDeathIsToldToAll) {
    TestAgent agent;
    Heard<std::string> heard;
    auto options = agent.options();
    options.on_lost = [&](const Error&) { heard.say("session"); };
    auto session = *Session::open(options);
    agent.on("segment_create", {{"segment", 1}, {"segment_id", 4}});
    auto segment = Segment::create(session, {.size_bytes = 4096, .on_lost = [&](const Error& why) {
                                                 EXPECT_EQ(why.code(), Errc::disconnected);
                                                 heard.say("segment");
                                             }});
    ASSERT_TRUE(segment);
    agent.ignore("probe");
    std::thread kills([&] {
        agent.next("probe");
        agent.die();
    });
    EXPECT_EQ(code(session.probe(2)), Errc::disconnected);
    kills.join();
    EXPECT_EQ(heard.next(), "session");
    EXPECT_EQ(heard.next(), "segment");
    EXPECT_EQ(code(segment->set_available(true)), Errc::disconnected);
    segment->bytes()[0] = std::byte{1}; // the memory stays
}

TEST(Session, ThingsMayOutliveIt) {
    TestAgent agent;
    agent.on("segment_create", {{"segment", 1}, {"segment_id", 4}});
    std::optional<Segment> segment;
    std::atomic<bool> called = false;
    {
        auto options = agent.options();
        options.on_lost = [&](const Error&) { called = true; };
        auto session = *Session::open(options);
        segment =
            *Segment::create(session, {.size_bytes = 4096, .on_lost = [&](const Error&) { called = true; }});
    }
    EXPECT_EQ(code(segment->set_available(true)), Errc::disconnected);
    segment->bytes()[0] = std::byte{1};
    segment.reset();
    EXPECT_FALSE(called);
}

TEST(Session, ACallbackMayEndIt) {
    TestAgent agent;
    std::optional<Session> session;
    Heard<int> ended;
    agent.on("segment_create", {{"segment", 1}, {"segment_id", 4}});
    session = *Session::open(agent.options());
    auto segment = *Segment::create(*session, {.size_bytes = 4096, .on_connected = [&](uint32_t node) {
                                                   session.reset();
                                                   ended.say(static_cast<int>(node));
                                               }});
    agent.say({{"event", "segment_connected"}, {"segment", 1}, {"node", 3}});
    EXPECT_EQ(ended.next(), 3);
}

TEST(Session, ACallbackMayCall) {
    TestAgent agent;
    Heard<bool> heard;
    agent.on("segment_create", {{"segment", 1}, {"segment_id", 4}});
    auto session = *Session::open(agent.options());
    auto segment = *Segment::create(session, {.size_bytes = 4096, .on_connected = [&](uint32_t) {
                                                  heard.say(session.probe(2).has_value());
                                              }});
    agent.say({{"event", "segment_connected"}, {"segment", 1}, {"node", 3}});
    EXPECT_TRUE(heard.next());
}

TEST(Session, NoCallbackAfterTheDestructor) {
    TestAgent agent;
    auto session = *Session::open(agent.options());
    agent.on("segment_create", {{"segment", 1}, {"segment_id", 4}});
    Heard<int> entered, destroying;
    Heard<bool> overtaken;
    std::atomic<bool> destroyed = false;
    std::optional<Segment> segment =
        *Segment::create(session, {.size_bytes = 4096, .on_connected = [&](uint32_t) {
                                       entered.say(1);
                                       destroying.next();
                                       std::this_thread::sleep_for(milliseconds(20));
                                       overtaken.say(destroyed);
                                   }});
    agent.say({{"event", "segment_connected"}, {"segment", 1}, {"node", 1}});
    entered.next();
    destroying.say(1);
    segment.reset(); // waits for the one that runs
    destroyed = true;
    EXPECT_FALSE(overtaken.next());
    agent.say({{"event", "segment_connected"}, {"segment", 1}, {"node", 1}});
    EXPECT_TRUE(session.probe(2));
    EXPECT_EQ(entered.count(), 1u);
}

TEST(Session, LeavesNoDescriptorsAndNoMappings) {
    const auto count = [] {
        int mappings = 0;
        std::ifstream maps("/proc/self/maps");
        for (std::string line; std::getline(maps, line);)
            mappings += line.find("memfd:") != std::string::npos;
        return std::pair(std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}), mappings);
    };
    const auto use = [] {
        TestAgent agent;
        const auto memory = *create_memory("x", 4096);
        const auto eventfd = *create_eventfd();
        const Json extent = {{"offset", 0}, {"size", 4096}, {"fd_offset", 0}};
        agent.on("segment_create", {{"segment", 1}, {"segment_id", 4}});
        agent.on("segment_connect", {{"connection", 2}, {"size", 4096}, {"extents", Json::array({extent})}},
                 {memory.get()});
        agent.on("interrupt_create", {{"interrupt", 3}, {"number", 4}}, {eventfd.get()});
        auto session = *Session::open(agent.options());
        auto segment = *Segment::create(session, {.size_bytes = 4096});
        const auto again = *segment.map();
        auto interrupt = *Interrupt::create(session, {.on_interrupt = [](uint64_t) {}});
        for (int i = 0; i < 3; ++i) {
            auto remote = *RemoteSegment::connect(session, 2, 4, milliseconds(0));
            const auto view = *remote.map();
        }
    };
    const auto before = count();
    use();
    EXPECT_EQ(count(), before);
}

TEST(Requester, IsUnregistered) {
    TestAgent agent;
    auto session = *Session::open(agent.options());
    agent.on("requester_register", {{"requester", 9}});
    {
        auto requester = Requester::add(session, 0x17, 0x08);
        ASSERT_TRUE(requester);
        EXPECT_EQ(agent.next("requester_register")["bus"], 0x17);
    }
    EXPECT_EQ(agent.next("requester_unregister")["requester"], 9);
}

} // namespace
} // namespace lanepool
