// SPDX-License-Identifier: Apache-2.0
#include "lanepool/interrupt.h"

#include "lanepool/test_agent.h"
#include "session/data_ring.h"
#include "session/protocol.h"

#include <cstring>
#include <sys/eventfd.h>

namespace lanepool {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class InterruptTest : public testing::Test {
  protected:
    InterruptTest() {
        agent.on("interrupt_create", {{"interrupt", 3}, {"number", 12}}, {eventfd.get()});
        agent.on("interrupt_connect", {{"connection", 5}}, {eventfd.get()});
    }

    UniqueFd eventfd = *create_eventfd();
    TestAgent agent;
    Session session = *Session::open(agent.options());
};

TEST_F(InterruptTest, WaitsUntilItIsTriggered) {
    auto interrupt = Interrupt::create(session, {.number = 12});
    ASSERT_TRUE(interrupt) << interrupt.error().message();
    EXPECT_EQ(interrupt->number(), 12u);
    const auto call = agent.next("interrupt_create");
    EXPECT_EQ(call["number"], 12);
    EXPECT_EQ(call["data"], false);
    auto remote = RemoteInterrupt::connect(session, 2, 12, seconds(1));
    ASSERT_TRUE(remote) << remote.error().message();
    EXPECT_EQ(code(interrupt->wait(milliseconds(0))), Errc::timeout);
    ASSERT_TRUE(remote->trigger());
    ASSERT_TRUE(remote->trigger());
    EXPECT_EQ(*interrupt->wait(seconds(10)), 2u);
    EXPECT_EQ(code(interrupt->wait(milliseconds(1))), Errc::timeout);
    std::thread triggers([&] { EXPECT_TRUE(remote->trigger()); });
    EXPECT_EQ(*interrupt->wait(forever), 1u);
    triggers.join();
}

TEST_F(InterruptTest, CallsBack) {
    Heard<uint64_t> heard;
    auto interrupt = *Interrupt::create(session, {.on_interrupt = [&](uint64_t count) { heard.say(count); }});
    EXPECT_FALSE(agent.next("interrupt_create").contains("number"));
    auto remote = *RemoteInterrupt::connect(session, 2, 12, seconds(1));
    for (int i = 0; i < 3; ++i) {
        ASSERT_TRUE(remote.trigger());
        EXPECT_EQ(heard.next(), 1u);
    }
    EXPECT_EQ(code(interrupt.wait(milliseconds(0))), Errc::failed_precondition);
    agent.refuse("interrupt_remove", Errc::busy);
    EXPECT_EQ(code(interrupt.remove()), Errc::busy);
    ASSERT_TRUE(remote.trigger()); // as before
    EXPECT_EQ(heard.next(), 1u);
}

TEST_F(InterruptTest, ACallbackMayDestroyIt) {
    Heard<int> assigned, heard;
    std::optional<Interrupt> interrupt;
    interrupt = *Interrupt::create(session, {.on_interrupt = [&](uint64_t) {
                                       assigned.next();
                                       interrupt.reset();
                                       heard.say(1);
                                   }});
    assigned.say(1);
    signal(eventfd);
    EXPECT_EQ(heard.next(), 1);
    EXPECT_EQ(agent.next("interrupt_remove")["force"], true);
}

TEST_F(InterruptTest, RemovalEndsEveryWait) {
    auto interrupt = *Interrupt::create(session);
    std::vector<std::thread> threads;
    Heard<Errc> heard;
    for (int i = 0; i < 2; ++i)
        threads.emplace_back([&] { heard.say(code(interrupt.wait(forever))); });
    ASSERT_TRUE(interrupt.remove());
    for (int i = 0; i < 2; ++i) {
        const auto said = heard.next(); // one that had not begun to wait is told so
        EXPECT_TRUE(said == Errc::cancelled || said == Errc::failed_precondition);
    }
    for (auto& thread : threads)
        thread.join();
}

TEST_F(InterruptTest, TheAgentsDeathEndsEveryWait) {
    Heard<Errc> heard;
    auto interrupt =
        *Interrupt::create(session, {.on_lost = [&](const Error& why) { heard.say(why.code()); }});
    auto remote = *RemoteInterrupt::connect(session, 2, 12, seconds(1));
    std::thread waits([&] { EXPECT_EQ(code(interrupt.wait(forever)), Errc::disconnected); });
    agent.die();
    waits.join();
    EXPECT_EQ(heard.next(), Errc::disconnected);
    EXPECT_EQ(code(remote.trigger()), Errc::disconnected);
}

TEST_F(InterruptTest, ItsLossIsTold) {
    Heard<std::string> heard;
    auto remote = *RemoteInterrupt::connect(session, 2, 12, seconds(1),
                                            {.on_lost = [&](const Error& why) { heard.say(why.message()); }});
    agent.say({{"event", "connection_lost"}, {"connection", 5}, {"reason", "removed"}});
    EXPECT_EQ(heard.next(), "removed");
    EXPECT_EQ(code(remote.trigger()), Errc::disconnected);
}

TEST_F(InterruptTest, WhatIsNoEventfdIsNotWrittenTo) {
    const auto memory = *create_memory("x", 4096);
    for (const std::vector<int>& fds : {std::vector<int>{}, {memory.get()}, {eventfd.get(), eventfd.get()}}) {
        agent.on("interrupt_create", {{"interrupt", 3}, {"number", 12}}, fds);
        agent.on("interrupt_connect", {{"connection", 5}}, fds);
        EXPECT_EQ(code(Interrupt::create(session)), Errc::protocol);
        EXPECT_EQ(agent.next("interrupt_remove")["interrupt"], 3);
        EXPECT_EQ(code(RemoteInterrupt::connect(session, 2, 12, seconds(1))), Errc::protocol);
        EXPECT_EQ(agent.next("disconnect")["connection"], 5);
    }
}

TEST_F(InterruptTest, ABlockingEventfdBlocksNobody) {
    const UniqueFd blocking(::eventfd(0, EFD_CLOEXEC));
    agent.on("interrupt_connect", {{"connection", 5}}, {blocking.get()});
    auto remote = *RemoteInterrupt::connect(session, 2, 12, seconds(1));
    const uint64_t full = UINT64_MAX - 1;
    ASSERT_EQ(::write(blocking.get(), &full, sizeof full), 8);
    EXPECT_TRUE(remote.trigger()); // lost: it is signalled anyhow
}

class DataInterruptTest : public InterruptTest {
  protected:
    static std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }
    // Somebody connects to the interrupt of this process: his end.
    RemoteDataInterrupt sender(uint64_t id) {
        agent.on("interrupt_connect", {{"connection", 100 + id}}, {eventfd.get(), ring.get()});
        auto remote = RemoteDataInterrupt::connect(session, 2, 12, seconds(1));
        EXPECT_TRUE(remote) << remote.error().message();
        announce(id);
        return std::move(*remote);
    }
    void announce(uint64_t id) {
        agent.say(
            {{"event", "interrupt_sender"}, {"interrupt", 3}, {"sender", id}, {"node", 2}, {"user", "ann@b"}},
            {ring.get()});
    }
    void fresh_ring() { ring = *create_memory("ring", session::data_ring_bytes); }
    static std::string wait(DataInterrupt& interrupt, milliseconds timeout = seconds(20)) {
        std::array<std::byte, max_interrupt_bytes> buffer;
        const auto size = interrupt.wait(buffer, timeout);
        if (!size) return std::string(name(size.error().code()));
        return {reinterpret_cast<const char*>(buffer.data()), *size};
    }

    UniqueFd ring = *create_memory("ring", session::data_ring_bytes);
};

TEST_F(DataInterruptTest, CarriesMessages) {
    auto interrupt = *DataInterrupt::create(session, {.number = 12});
    EXPECT_EQ(agent.next("interrupt_create")["data"], true);
    auto remote = sender(1);
    EXPECT_EQ(agent.next("interrupt_connect")["data"], true);
    ASSERT_TRUE(remote.send(bytes("one")));
    ASSERT_TRUE(remote.send(bytes("")));
    ASSERT_TRUE(remote.send(bytes(std::string(max_interrupt_bytes, 'x'))));
    EXPECT_EQ(code(remote.send(bytes(std::string(max_interrupt_bytes + 1, 'x')))), Errc::out_of_range);
    EXPECT_EQ(wait(interrupt), "one");
    EXPECT_EQ(wait(interrupt), "");
    EXPECT_EQ(wait(interrupt), std::string(max_interrupt_bytes, 'x'));
    EXPECT_EQ(wait(interrupt, milliseconds(1)), "timeout");
    ASSERT_TRUE(remote.send(bytes("four")));
    std::array<std::byte, 3> small;
    EXPECT_EQ(code(interrupt.wait(small, seconds(20))), Errc::no_space);
    EXPECT_EQ(wait(interrupt), "four");
}

TEST_F(DataInterruptTest, WhatWasSentBeforeTheSenderIsKnownArrives) {
    auto interrupt = *DataInterrupt::create(session);
    agent.on("interrupt_connect", {{"connection", 101}}, {eventfd.get(), ring.get()});
    auto remote = *RemoteDataInterrupt::connect(session, 2, 12, seconds(1));
    ASSERT_TRUE(remote.send(bytes("early")));
    EXPECT_EQ(wait(interrupt, milliseconds(1)), "timeout"); // which takes the trigger
    announce(1);
    EXPECT_EQ(wait(interrupt), "early");
}

TEST_F(DataInterruptTest, AFullRingSaysSo) {
    auto interrupt = *DataInterrupt::create(session);
    auto remote = sender(1);
    const std::string text(max_interrupt_bytes, 'x');
    size_t sent = 0;
    while (remote.send(bytes(text)))
        ++sent;
    EXPECT_EQ(sent, 14u);
    EXPECT_EQ(code(remote.send(bytes(text))), Errc::no_space);
    EXPECT_EQ(wait(interrupt), text);
    EXPECT_TRUE(remote.send(bytes(text)));
}

TEST_F(DataInterruptTest, SendersTakeTurns) {
    auto interrupt = *DataInterrupt::create(session);
    auto first = sender(1);
    fresh_ring();
    auto second = sender(2);
    ASSERT_TRUE(session.probe(1)); // so that the events are there
    for (int i = 0; i < 3; ++i)
        ASSERT_TRUE(first.send(bytes("a")));
    ASSERT_TRUE(second.send(bytes("b")));
    EXPECT_EQ(wait(interrupt), "a");
    EXPECT_EQ(wait(interrupt), "b");
    EXPECT_EQ(wait(interrupt), "a");
}

TEST_F(DataInterruptTest, WhatWhoIsGoneHasSentArrives) {
    auto interrupt = *DataInterrupt::create(session);
    auto remote = sender(1);
    ASSERT_TRUE(remote.send(bytes("last")));
    agent.say({{"event", "interrupt_sender_gone"}, {"interrupt", 3}, {"sender", 1}});
    ASSERT_TRUE(session.probe(1));
    EXPECT_EQ(wait(interrupt), "last");
    ASSERT_TRUE(remote.send(bytes("ghost")));
    EXPECT_EQ(wait(interrupt, milliseconds(1)), "timeout");
}

TEST_F(DataInterruptTest, CallsBackForEachMessage) {
    Heard<std::string> heard;
    auto interrupt =
        *DataInterrupt::create(session, {.on_message = [&](std::span<const std::byte> data) {
                                   heard.say({reinterpret_cast<const char*>(data.data()), data.size()});
                               }});
    auto remote = sender(1);
    for (int i = 0; i < 200; ++i)
        ASSERT_TRUE(remote.send(bytes(std::to_string(i))));
    for (int i = 0; i < 200; ++i)
        EXPECT_EQ(heard.next(), std::to_string(i));
    std::array<std::byte, 8> buffer;
    EXPECT_EQ(code(interrupt.wait(buffer, milliseconds(0))), Errc::failed_precondition);
}

TEST_F(DataInterruptTest, TellsWhoHasSentAndThatHeIsGone) {
    Heard<std::string> heard;
    const auto words = [](const DataSender& who, std::string_view text) {
        return fmt::format("{} {} {} {}", who.id, who.node, who.user, text);
    };
    auto interrupt = *DataInterrupt::create(
        session, {.on_message_from =
                      [&](const DataSender& who, std::span<const std::byte> data) {
                          heard.say(words(who, {reinterpret_cast<const char*>(data.data()), data.size()}));
                      },
                  .on_sender_gone = [&](const DataSender& who) { heard.say(words(who, "is gone")); }});
    auto remote = sender(7);
    ASSERT_TRUE(remote.send(bytes("hello")));
    EXPECT_EQ(heard.next(), "7 2 ann@b hello");
    ASSERT_TRUE(remote.send(bytes("bye")));
    agent.say({{"event", "interrupt_sender_gone"}, {"interrupt", 3}, {"sender", 7}});
    EXPECT_EQ(heard.next(), "7 2 ann@b bye");
    EXPECT_EQ(heard.next(), "7 2 ann@b is gone");
}

TEST_F(DataInterruptTest, ManyWhoCameAndWentKeepNobodyOut) {
    auto interrupt = *DataInterrupt::create(session);
    for (uint64_t id = 1; id <= 3 * session::max_senders; ++id) {
        fresh_ring();
        auto remote = sender(id);
        ASSERT_TRUE(remote.send(bytes("came")));
        agent.say({{"event", "interrupt_sender_gone"}, {"interrupt", 3}, {"sender", id}});
    }
    fresh_ring();
    auto remote = sender(1000);
    ASSERT_TRUE(remote.send(bytes("stays")));
    ASSERT_TRUE(session.probe(1));
    size_t others = 0;
    while (wait(interrupt) == "came")
        ++others;
    EXPECT_LT(others, 2 * session::max_senders); // then came the one that stays
}

TEST_F(DataInterruptTest, AHostileSenderHarmsNobodyElse) {
    auto interrupt = *DataInterrupt::create(session);
    auto bad = sender(1);
    auto bad_ring = *Mapping::create(ring.get(), 0, session::data_ring_bytes);
    fresh_ring();
    auto good = sender(2);
    ASSERT_TRUE(session.probe(1));
    std::memset(bad_ring.data(), 0xff, bad_ring.size_bytes());
    ASSERT_TRUE(good.send(bytes("good")));
    EXPECT_EQ(wait(interrupt), "good");
    EXPECT_EQ(wait(interrupt, milliseconds(1)), "timeout");
}

TEST_F(DataInterruptTest, AHostileReceiverIsNoticed) {
    auto remote = sender(1);
    auto their = *Mapping::create(ring.get(), 0, session::data_ring_bytes);
    std::memset(their.data() + 64, 0xff, 8);
    Result<> sent;
    for (int i = 0; i < 100 && sent; ++i)
        sent = remote.send(bytes(std::string(max_interrupt_bytes, 'x')));
    EXPECT_EQ(code(sent), Errc::disconnected);
}

TEST_F(DataInterruptTest, ARingThatCannotBeIsNotMapped) {
    const auto small = *create_memory("x", 4096);
    for (const std::vector<int>& fds : {std::vector<int>{eventfd.get()}, {eventfd.get(), small.get()}}) {
        agent.on("interrupt_connect", {{"connection", 5}}, fds);
        EXPECT_EQ(code(RemoteDataInterrupt::connect(session, 2, 12, seconds(1))), Errc::protocol);
        EXPECT_EQ(agent.next("disconnect")["connection"], 5);
    }
    auto interrupt = *DataInterrupt::create(session);
    agent.say({{"event", "interrupt_sender"}, {"interrupt", 3}, {"sender", 1}}, {small.get()});
    agent.say({{"event", "interrupt_sender"}, {"interrupt", 3}, {"sender", 1}});
    agent.say({{"event", "interrupt_sender"}, {"interrupt", 3}}, {ring.get()});
    EXPECT_EQ(wait(interrupt, milliseconds(1)), "timeout");
}

TEST_F(DataInterruptTest, TwoThreadsThatWaitLoseNothing) {
    auto interrupt = *DataInterrupt::create(session);
    auto remote = sender(1);
    constexpr int count = 2000;
    Heard<int> heard;
    std::vector<std::thread> threads;
    for (int t = 0; t < 2; ++t)
        threads.emplace_back([&] {
            for (std::string text; (text = wait(interrupt)) != "end";)
                heard.say(1);
        });
    for (int i = 0; i < count;)
        if (remote.send(bytes("message")))
            ++i;
        else
            std::this_thread::yield();
    for (int i = 0; i < count; ++i)
        heard.next();
    for (int t = 0; t < 2; ++t)
        ASSERT_TRUE(remote.send(bytes("end")));
    for (auto& thread : threads)
        thread.join();
}

} // namespace
} // namespace lanepool
