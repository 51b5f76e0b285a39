// SPDX-License-Identifier: Apache-2.0
//
// What processes of two hosts show each other, the whole way: their sockets, their agents, the channel, and
// windows through the switch.
#include "integration/application_hosts.h"
#include "session/protocol.h"

#include <cstring>
#include <gmock/gmock.h>

namespace lanepool::test {
namespace {

constexpr uint64_t page = 4096;
constexpr uint64_t long_ms = 5000;

class Applications : public testing::Test {
  protected:
    Applications() : fabric(folder, 3), a(fabric, folder, 0), b(fabric, folder, 1) {}
    void SetUp() override {
        ASSERT_TRUE(eventually([&] { return a.sees(b) && b.sees(a); }));
        a_counts = a.counts();
        b_counts = b.counts();
    }
    void TearDown() override { expect_nothing_left(); }
    void expect_nothing_left_but_sessions() {
        const auto nothing = [](Json counts, const Json& before) {
            counts["sessions"] = 0;
            return counts == before;
        };
        EXPECT_TRUE(eventually([&] { return nothing(a.counts(), a_counts); })) << a.counts() << a_counts;
        EXPECT_TRUE(eventually([&] { return nothing(b.counts(), b_counts); })) << b.counts() << b_counts;
    }
    void expect_nothing_left() {
        EXPECT_TRUE(eventually([&] { return a.counts() == a_counts; })) << a.counts() << a_counts;
        EXPECT_TRUE(eventually([&] { return b.counts() == b_counts; })) << b.counts() << b_counts;
    }

    TemporaryFolder folder;
    Fabric fabric;
    ApplicationHost a;
    ApplicationHost b;
    Json a_counts;
    Json b_counts;
};

// A segment as a process has it.
struct Shared {
    Shared(RawSession& session, uint32_t id, uint64_t size = page)
        : memory(must(create_memory("segment", size))),
          mapping(must(Mapping::create(memory.get(), 0, size))) {
        const auto created =
            session.call("segment_create", {{"segment_id", id}, {"size", size}}, {memory.get()});
        EXPECT_TRUE(created.ok()) << created.body;
        EXPECT_EQ(created.number("segment_id"), id);
        handle = created.number("segment");
    }
    RawSession::Answer available(RawSession& session, bool yes = true) {
        return session.call("segment_available", {{"segment", handle}, {"available", yes}});
    }
    UniqueFd memory;
    Mapping mapping;
    uint64_t handle = 0;
};

RawSession::Answer connect(RawSession& session, const ApplicationHost& host, uint32_t id,
                           uint64_t timeout_ms = long_ms) {
    return session.call("segment_connect",
                        {{"node", host.node()}, {"segment_id", id}, {"timeout_ms", timeout_ms}});
}

// All of what was connected to, by its one extent.
Mapping map(const RawSession::Answer& connected) {
    if (connected.fds.size() != 1) throw std::runtime_error(connected.body.dump());
    const auto& extent = connected.body.at("extents").at(0);
    EXPECT_EQ(extent.at("offset"), 0u);
    EXPECT_EQ(extent.at("size"), connected.number("size"));
    return must(Mapping::create(connected.fds[0].get(), extent.at("fd_offset"), extent.at("size")));
}

TEST_F(Applications, HelloSaysWhereOneIs) {
    RawSession session(a.socket());
    const auto early = session.call("nodes");
    EXPECT_EQ(early.code(), "failed_precondition");
    EXPECT_EQ(session.call("hello", {{"version", 2}}).code(), "not_supported");
    const auto hello = session.hello();
    ASSERT_TRUE(hello.ok()) << hello.body;
    EXPECT_EQ(hello.body.at("host"), "host0");
    EXPECT_EQ(hello.number("node"), a.node());
    EXPECT_EQ(hello.body.at("user"), application::user_name(::geteuid()));
    const auto nodes = session.call("nodes");
    ASSERT_EQ(nodes.body.at("nodes").size(), 3u);
    EXPECT_EQ(nodes.body["nodes"][0], (Json{{"node", 0}, {"alive", true}}));
    EXPECT_EQ(nodes.body["nodes"][1], (Json{{"node", 1}, {"alive", true}}));
    EXPECT_EQ(nodes.body["nodes"][2], (Json{{"node", 2}, {"alive", false}}));
    EXPECT_TRUE(session.call("probe", {{"node", 0}}).ok());
    EXPECT_TRUE(session.call("probe", {{"node", 1}}).ok());
    EXPECT_EQ(session.call("probe", {{"node", 2}}).code(), "unavailable");
    EXPECT_EQ(session.call("probe", {{"node", 3}}).code(), "not_found");
    EXPECT_EQ(session.call("probe", {{"node", 1000}}).code(), "not_found");
    EXPECT_EQ(session.call("fly").code(), "not_supported");
}

TEST_F(Applications, TwoSeeEachOthersMemory) {
    auto at_a = a.session();
    auto at_b = b.session();
    Shared of_a(at_a, 4, 3 * page);
    Shared of_b(at_b, 4, 100 * page); // ids are each host's own
    ASSERT_TRUE(of_a.available(at_a).ok());
    ASSERT_TRUE(of_b.available(at_b).ok());
    const auto from_b = connect(at_b, a, 4);
    const auto from_a = connect(at_a, b, 4);
    ASSERT_TRUE(from_b.ok()) << from_b.body;
    ASSERT_TRUE(from_a.ok()) << from_a.body;
    EXPECT_EQ(from_b.number("size"), 3 * page);
    EXPECT_EQ(from_a.number("size"), 100 * page);
    map(from_b).data()[2 * page] = std::byte{77};
    EXPECT_EQ(of_a.mapping.data()[2 * page], std::byte{77});
    of_b.mapping.data()[99 * page + 5] = std::byte{78};
    EXPECT_EQ(map(from_a).data()[99 * page + 5], std::byte{78});

    const auto event = at_a.event("segment_connected");
    EXPECT_EQ(event.number("segment"), of_a.handle);
    EXPECT_EQ(event.number("node"), b.node());
}

TEST_F(Applications, WhatIsConnectedIsBusy) {
    auto owner = a.session();
    auto user = b.session();
    Shared segment(owner, 7);
    ASSERT_TRUE(segment.available(owner).ok());
    const auto connected = connect(user, a, 7);
    ASSERT_TRUE(connected.ok());
    EXPECT_EQ(segment.available(owner, false).code(), "busy");
    EXPECT_EQ(owner.call("segment_remove", {{"segment", segment.handle}}).code(), "busy");

    EXPECT_TRUE(user.call("disconnect", {{"connection", connected.number("connection")}}).ok());
    EXPECT_EQ(user.call("disconnect", {{"connection", connected.number("connection")}}).code(), "not_found");
    // Who has disconnected is gone from the owner's view by then.
    EXPECT_TRUE(segment.available(owner, false).ok());
    EXPECT_EQ(owner.event("segment_disconnected").number("segment"), segment.handle);
    EXPECT_EQ(connect(user, a, 7, 0).code(), "not_found");
    EXPECT_TRUE(segment.available(owner).ok());
    EXPECT_TRUE(connect(user, a, 7).ok());
    user.close();
    EXPECT_EQ(owner.event("segment_disconnected").number("segment"), segment.handle);
    EXPECT_TRUE(owner.call("segment_remove", {{"segment", segment.handle}}).ok());
    EXPECT_EQ(owner.call("segment_remove", {{"segment", segment.handle}}).code(), "not_found");
}

TEST_F(Applications, WhatIsBusyIsTakenAwayByForce) {
    auto owner = a.session();
    auto user = b.session();
    Shared segment(owner, 7);
    ASSERT_TRUE(segment.available(owner).ok());
    const auto connected = connect(user, a, 7);
    const auto interrupt = owner.call("interrupt_create", {{"number", 7}});
    const auto triggers = user.call("interrupt_connect", {{"node", a.node()}, {"number", 7}});
    ASSERT_TRUE(connected.ok() && triggers.ok());
    EXPECT_TRUE(owner.call("segment_remove", {{"segment", segment.handle}, {"force", true}}).ok());
    EXPECT_EQ(user.event("connection_lost").number("connection"), connected.number("connection"));
    EXPECT_TRUE(
        owner.call("interrupt_remove", {{"interrupt", interrupt.number("interrupt")}, {"force", true}}).ok());
    EXPECT_EQ(user.event("connection_lost").number("connection"), triggers.number("connection"));
    expect_nothing_left_but_sessions();
}

TEST_F(Applications, OneWaitsForWhatIsNotThereYet) {
    auto owner = a.session();
    auto user = b.session();
    const auto waits =
        user.start("segment_connect", {{"node", a.node()}, {"segment_id", 9}, {"timeout_ms", long_ms}});
    EXPECT_EQ(connect(user, a, 9, 30).code(), "not_found"); // meanwhile another call gives up
    Shared segment(owner, 9);
    EXPECT_EQ(connect(user, a, 9, 0).code(), "not_found");
    ASSERT_TRUE(segment.available(owner).ok());
    EXPECT_TRUE(user.finish(waits).ok());
    // A process that ends while it waits.
    user.start("segment_connect", {{"node", a.node()}, {"segment_id", 10}, {"timeout_ms", long_ms}});
    EXPECT_TRUE(eventually([&] { return b.counts().at("connections") == 2; }));
    user.close();
    EXPECT_TRUE(eventually([&] { return b.counts() == b_counts; }));
    EXPECT_EQ(owner.call("segment_connect", {{"node", 2}, {"segment_id", 1}}).code(), "unavailable");
}

TEST_F(Applications, ProcessesOfOneHostSeeEachOther) {
    auto owner = a.session();
    auto user = a.session();
    Shared segment(owner, 7);
    ASSERT_TRUE(segment.available(owner).ok());
    const auto connected = connect(user, a, 7);
    ASSERT_TRUE(connected.ok()) << connected.body;
    map(connected).data()[5] = std::byte{55};
    EXPECT_EQ(segment.mapping.data()[5], std::byte{55});
    EXPECT_EQ(owner.event("segment_connected").number("node"), a.node());
    const auto interrupt = owner.call("interrupt_create", {{"data", true}});
    const auto triggers = user.call(
        "interrupt_connect", {{"node", a.node()}, {"number", interrupt.number("number")}, {"data", true}});
    ASSERT_TRUE(triggers.ok()) << triggers.body;
    signal(triggers.fds[0]);
    EXPECT_EQ(drain(interrupt.fds[0]), 1u);
    owner.close();
    EXPECT_EQ(user.event("connection_lost").number("connection"), triggers.number("connection"));
    EXPECT_EQ(user.event("connection_lost").number("connection"), connected.number("connection"));
}

TEST_F(Applications, IdsAreTheHosts) {
    auto one = a.session();
    auto other = a.session();
    Shared segment(one, 5);
    EXPECT_EQ(other.call("segment_create", {{"segment_id", 5}, {"size", page}}).code(), "already_exists");
    const auto chosen = other.call("segment_create", {{"size", page}});
    ASSERT_TRUE(chosen.ok());
    EXPECT_NE(chosen.number("segment_id"), 5u);
    // Handles are the session's own.
    EXPECT_EQ(one.call("segment_remove", {{"segment", chosen.number("segment") + 1}}).code(), "not_found");
    const auto hidden = other.call("segment_create", {{"segment_id", 5}, {"private", true}, {"size", page}});
    ASSERT_TRUE(hidden.ok()) << hidden.body;
    EXPECT_EQ(
        other.call("segment_available", {{"segment", hidden.number("segment")}, {"available", true}}).code(),
        "failed_precondition");
    // Memory may come later, once.
    const auto memory = must(create_memory("later", page));
    const auto handle = chosen.number("segment");
    EXPECT_EQ(other.call("segment_available", {{"segment", handle}, {"available", true}}).code(),
              "failed_precondition");
    EXPECT_TRUE(other.call("segment_attach", {{"segment", handle}}, {memory.get()}).ok());
    EXPECT_EQ(other.call("segment_attach", {{"segment", handle}}, {memory.get()}).code(),
              "failed_precondition");
    EXPECT_TRUE(other.call("segment_available", {{"segment", handle}, {"available", true}}).ok());
    one.close();
    EXPECT_TRUE(eventually([&] { return a.counts().at("sessions") == 1; }));
    EXPECT_TRUE(other.call("segment_create", {{"segment_id", 5}, {"size", page}}).ok());
}

TEST_F(Applications, ADeadProcessTakesItsSegmentsWithIt) {
    auto owner = a.session();
    auto user = b.session();
    Shared segment(owner, 7);
    Shared second(owner, 8);
    ASSERT_TRUE(segment.available(owner).ok());
    ASSERT_TRUE(second.available(owner).ok());
    const auto connected = connect(user, a, 7);
    const auto both = connect(user, a, 8);
    ASSERT_TRUE(connected.ok() && both.ok());
    owner.close();
    EXPECT_EQ(user.event("connection_lost").number("connection"), connected.number("connection"));
    EXPECT_EQ(user.event("connection_lost").number("connection"), both.number("connection"));
    EXPECT_EQ(user.call("disconnect", {{"connection", connected.number("connection")}}).code(), "not_found");
    EXPECT_EQ(connect(user, a, 7, 0).code(), "not_found");
}

TEST_F(Applications, ADeadHostTakesBothSidesWithIt) {
    auto at_a = a.session();
    auto at_b = b.session();
    Shared of_a(at_a, 1);
    Shared of_b(at_b, 1);
    ASSERT_TRUE(of_a.available(at_a).ok());
    ASSERT_TRUE(of_b.available(at_b).ok());
    const auto from_a = connect(at_a, b, 1);
    ASSERT_TRUE(from_a.ok());
    ASSERT_TRUE(connect(at_b, a, 1).ok());
    b.die();
    EXPECT_TRUE(at_b.closed_by_agent());
    EXPECT_EQ(at_a.event("connection_lost").number("connection"), from_a.number("connection"));
    EXPECT_EQ(at_a.event("segment_disconnected").number("segment"), of_a.handle);
    EXPECT_EQ(connect(at_a, b, 1).code(), "unavailable");
    EXPECT_TRUE(of_a.available(at_a, false).ok());
    {
        RawSession early(b.socket());
        EXPECT_EQ(early.hello().code(), "unavailable"); // it is not on the fabric
        EXPECT_TRUE(early.closed_by_agent());
    }
    b.start();
    ASSERT_TRUE(eventually([&] { return a.sees(b) && b.sees(a); }));
    auto again = b.session();
    ASSERT_TRUE(of_a.available(at_a).ok());
    EXPECT_TRUE(connect(again, a, 1).ok());
}

TEST_F(Applications, AnInterruptIsAnEventfd) {
    auto owner = a.session();
    auto user = b.session();
    const auto created = owner.call("interrupt_create", {{"number", 3}});
    ASSERT_TRUE(created.ok()) << created.body;
    ASSERT_EQ(created.fds.size(), 1u);
    EXPECT_EQ(owner.call("interrupt_create", {{"number", 3}}).code(), "already_exists");
    const auto connected = user.call(
        "interrupt_connect", {{"node", a.node()}, {"number", 3}, {"data", false}, {"timeout_ms", long_ms}});
    ASSERT_TRUE(connected.ok()) << connected.body;
    ASSERT_EQ(connected.fds.size(), 1u);
    EXPECT_EQ(drain(created.fds[0]), 0u);
    signal(connected.fds[0]);
    EXPECT_EQ(drain(created.fds[0]), 1u);
    EXPECT_EQ(user.call("interrupt_connect", {{"node", a.node()}, {"number", 3}, {"data", true}}).code(),
              "failed_precondition");
    EXPECT_EQ(user.call("interrupt_connect", {{"node", a.node()}, {"number", 4}}).code(), "not_found");
    const Json handle = {{"interrupt", created.number("interrupt")}};
    EXPECT_EQ(owner.call("interrupt_remove", handle).code(), "busy");
    EXPECT_TRUE(user.call("disconnect", {{"connection", connected.number("connection")}}).ok());
    EXPECT_TRUE(owner.call("interrupt_remove", handle).ok());
    EXPECT_NE(owner.call("interrupt_create").number("number"), 3u);
}

TEST_F(Applications, ADataInterruptHasARingForEach) {
    auto owner = a.session();
    const auto created = owner.call("interrupt_create", {{"number", 3}, {"data", true}});
    ASSERT_TRUE(created.ok()) << created.body;
    const Json arguments = {{"node", a.node()}, {"number", 3}, {"data", true}, {"timeout_ms", long_ms}};
    auto one = b.session();
    auto other = b.session();
    const auto first = one.call("interrupt_connect", arguments);
    const auto second = other.call("interrupt_connect", arguments);
    ASSERT_TRUE(first.ok()) << first.body;
    ASSERT_TRUE(second.ok()) << second.body;
    ASSERT_EQ(first.fds.size(), 2u);
    const auto first_ring = owner.event("interrupt_sender");
    const auto second_ring = owner.event("interrupt_sender");
    EXPECT_EQ(first_ring.number("interrupt"), created.number("interrupt"));
    EXPECT_EQ(first_ring.number("node"), b.node());
    EXPECT_EQ(first_ring.body.at("user"), application::user_name(::geteuid()) + "@host1");
    EXPECT_NE(first_ring.number("sender"), second_ring.number("sender"));
    ASSERT_EQ(first_ring.fds.size(), 1u);
    const auto write = must(Mapping::create(first.fds[1].get(), 0, session::data_ring_bytes));
    const auto read = must(Mapping::create(first_ring.fds[0].get(), 0, session::data_ring_bytes));
    const auto others = must(Mapping::create(second_ring.fds[0].get(), 0, session::data_ring_bytes));
    write.data()[session::data_ring_bytes - 1] = std::byte{9};
    EXPECT_EQ(read.data()[session::data_ring_bytes - 1], std::byte{9});
    EXPECT_EQ(others.data()[session::data_ring_bytes - 1], std::byte{0});
    signal(second.fds[0]);
    EXPECT_EQ(drain(created.fds[0]), 1u);

    one.close();
    EXPECT_EQ(owner.event("interrupt_sender_gone").number("sender"), first_ring.number("sender"));
    owner.close();
    EXPECT_EQ(other.event("connection_lost").number("connection"), second.number("connection"));
}

} // namespace
} // namespace lanepool::test
