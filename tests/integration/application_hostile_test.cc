// SPDX-License-Identifier: Apache-2.0
//
// An agent against processes that say whatever they like. Each test ends with a look at whether others are
// still served, and whether everything was given back, descriptors included.
#include "integration/application_hosts.h"
#include "session/protocol.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mman.h>
#include <sys/resource.h>

namespace lanepool::test {
namespace {

constexpr uint64_t page = 4096;

class HostileProcess : public testing::Test {
  protected:
    HostileProcess() : fabric(folder, 2), a(fabric, folder, 0) {
        counts = a.counts();
        descriptors = vfio_user::testing::open_descriptors();
    }
    void TearDown() override {
        {
            RawSession other(a.socket());
            EXPECT_TRUE(other.hello().ok());
        }
        EXPECT_TRUE(eventually([&] { return a.counts() == counts; })) << a.counts() << counts;
        EXPECT_TRUE(eventually([&] { return vfio_user::testing::open_descriptors() == descriptors; }))
            << vfio_user::testing::open_descriptors() << " not " << descriptors;
    }
    void say(RawSession& session, std::string_view text) {
        [[maybe_unused]] const auto sent = io::send(session.socket(), std::as_bytes(std::span(text)));
    }

    TemporaryFolder folder;
    Fabric fabric;
    ApplicationHost a;
    Json counts;
    size_t descriptors = 0;
};

TEST_F(HostileProcess, WhatIsNoCallEndsTheSession) {
    for (const auto* text : {"", "[", "[]", "1", "{}", R"({"id": 1})", R"({"id": -1, "call": "nodes"})",
                             R"({"id": 1, "call": 5})", R"({"id": "x", "call": "nodes"})", "\xff\xfe"}) {
        auto session = a.session();
        say(session, text);
        if (*text == 0) session.close(); // nothing at all is what a closed connection says
        EXPECT_TRUE(*text == 0 || session.closed_by_agent()) << text;
    }
    auto session = a.session();
    say(session, R"({"id": 1, "call": ")" + std::string(10'000, 'x') + R"("})");
    EXPECT_TRUE(session.closed_by_agent());
}

TEST_F(HostileProcess, FieldsOfTheWrongKindAreRefused) {
    auto session = a.session();
    for (const Json& size : {Json("x"), Json(-1), Json(1.5), Json(), Json::array(), Json::object()})
        EXPECT_EQ(session.call("segment_create", {{"size", size}}).code(), "protocol") << size;
    for (const char* call : {"segment_attach",
                             "segment_available",
                             "segment_remove",
                             "segment_connect",
                             "disconnect",
                             "interrupt_remove",
                             "interrupt_connect",
                             "probe",
                             "device_borrow",
                             "device_return",
                             "device_bar",
                             "register_read",
                             "register_write",
                             "device_segment_create",
                             "device_segment_remove",
                             "device_segment",
                             "device_map",
                             "device_unmap",
                             "device_interrupt",
                             "requester_register",
                             "requester_unregister"})
        EXPECT_EQ(session.call(call).code(), "protocol") << call;
    EXPECT_EQ(session.call("segment_create", {{"size", page}, {"private", 1}}).code(), "protocol");
    EXPECT_EQ(session.call("segment_create", {{"size", page}, {"segment_id", uint64_t{1} << 32}}).code(),
              "invalid_argument");
    EXPECT_EQ(session.call("segment_connect", {{"node", ~uint64_t{0}}, {"segment_id", 1}}).code(),
              "unavailable");
    EXPECT_EQ(session.call("requester_register", {{"bus", 256}, {"devfn", 0}}).code(), "invalid_argument");
    EXPECT_EQ(session.call("device_list").code(), "not_supported"); // this agent has no controller
    EXPECT_EQ(session.call("device_borrow", {{"fdid", 1}, {"exclusive", true}, {"timeout_ms", ~uint64_t{0}}})
                  .code(),
              "not_supported");
}

TEST_F(HostileProcess, SizesAreChecked) {
    auto session = a.session();
    for (const uint64_t size : {uint64_t{0}, uint64_t{1}, page + 1, ~uint64_t{0}})
        EXPECT_EQ(session.call("segment_create", {{"size", size}}).code(), "invalid_argument") << size;
    for (const uint64_t size :
         {session::max_segment_bytes + page, uint64_t{1} << 63, ~uint64_t{0} - page + 1})
        EXPECT_EQ(session.call("segment_create", {{"size", size}}).code(), "no_space") << size;
    EXPECT_TRUE(session.call("segment_create", {{"size", session::max_segment_bytes}}).ok());
    EXPECT_EQ(session.call("segment_create", {{"size", page}}).code(), "no_space");
}

TEST_F(HostileProcess, MemoryMustBeFitForOthers) {
    auto session = a.session();
    const auto create = [&](const std::vector<int>& fds) {
        return session.call("segment_create", {{"size", 2 * page}}, fds).code();
    };
    const auto good = must(create_memory("good", 2 * page));
    const auto small = must(create_memory("small", page));
    const UniqueFd unsealed(::memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    ASSERT_EQ(::ftruncate(unsealed.get(), 2 * page), 0);
    const UniqueFd unwritable(::memfd_create("unwritable", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    ASSERT_EQ(::ftruncate(unwritable.get(), 2 * page), 0);
    ASSERT_EQ(::fcntl(unwritable.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_WRITE), 0);
    const UniqueFd read_only(
        ::open(("/proc/self/fd/" + std::to_string(good.get())).c_str(), O_RDONLY | O_CLOEXEC));
    const UniqueFd file(::open((folder / "file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    ASSERT_EQ(::ftruncate(file.get(), 2 * page), 0);
    const auto eventfd = must(create_eventfd());
    for (const auto* wrong : {&small, &unsealed, &unwritable, &read_only, &file, &eventfd})
        EXPECT_EQ(create({wrong->get()}), "invalid_argument");
    EXPECT_EQ(create({good.get(), good.get()}), "invalid_argument");
    const auto empty = session.call("segment_create", {{"size", page}});
    const Json handle = {{"segment", empty.number("segment")}};
    EXPECT_EQ(session.call("segment_attach", handle).code(), "invalid_argument");
    EXPECT_EQ(session.call("segment_attach", handle, {unsealed.get()}).code(), "invalid_argument");
    // What seals it can be had only once it cannot shrink any more.
    ASSERT_EQ(::fcntl(unsealed.get(), F_ADD_SEALS, F_SEAL_SHRINK), 0);
    EXPECT_EQ(::ftruncate(unsealed.get(), 0), -1);
    EXPECT_TRUE(session.call("segment_attach", handle, {unsealed.get()}).ok());
}

TEST_F(HostileProcess, NothingOfAnotherSessionIsReached) {
    auto victim = a.session();
    const auto memory = must(create_memory("victim", page));
    RawSession::Answer segment;
    for (int i = 0; i < 5; ++i)
        segment = victim.call("segment_create", {{"size", page}}, {memory.get()});
    const Json available = {{"segment", segment.number("segment")}, {"available", true}};
    ASSERT_TRUE(victim.call("segment_available", available).ok());
    const auto interrupt = victim.call("interrupt_create");
    const auto connection =
        victim.call("segment_connect", {{"node", a.node()}, {"segment_id", segment.number("segment_id")}});
    ASSERT_TRUE(connection.ok());

    auto session = a.session();
    for (uint64_t handle = 0; handle <= 10; ++handle) {
        EXPECT_EQ(session.call("segment_remove", {{"segment", handle}, {"force", true}}).code(), "not_found");
        EXPECT_EQ(session.call("segment_available", {{"segment", handle}, {"available", false}}).code(),
                  "not_found");
        EXPECT_EQ(session.call("interrupt_remove", {{"interrupt", handle}, {"force", true}}).code(),
                  "not_found");
        EXPECT_EQ(session.call("disconnect", {{"connection", handle}, {"force", true}}).code(), "not_found");
        EXPECT_EQ(session.call("device_return", {{"device", handle}}).code(), "not_found");
        EXPECT_EQ(session.call("requester_unregister", {{"requester", handle}}).code(), "not_found");
        EXPECT_EQ(session.call("device_unmap", {{"mapping", handle}}).code(), "not_found");
    }
    EXPECT_TRUE(victim.call("disconnect", {{"connection", connection.number("connection")}}).ok());
}

TEST_F(HostileProcess, CallsUnderWayHaveALimit) {
    auto session = a.session();
    const Json absent = {{"node", a.node()}, {"segment_id", 77}, {"timeout_ms", 60'000}};
    for (int i = 0; i < 64; ++i)
        session.start("segment_connect", absent);
    EXPECT_EQ(session.call("segment_connect", absent).code(), "no_space");
    // Others find their segments all the same.
    auto other = a.session();
    const auto memory = must(create_memory("segment", page));
    const auto segment = other.call("segment_create", {{"segment_id", 5}, {"size", page}}, {memory.get()});
    ASSERT_TRUE(
        other.call("segment_available", {{"segment", segment.number("segment")}, {"available", true}}).ok());
    EXPECT_TRUE(
        other.call("segment_connect", {{"node", a.node()}, {"segment_id", 5}, {"timeout_ms", 5000}}).ok());
}

TEST_F(HostileProcess, AFloodIsAnsweredOrEnded) {
    auto flooder = a.session();
    ASSERT_EQ(::fcntl(flooder.socket(), F_SETFL, O_NONBLOCK), 0);
    const UniqueFd file = must(create_memory("flood", page));
    Errc refused = Errc::internal;
    for (int i = 0; i < 100'000 && refused == Errc::internal; ++i) {
        const auto sent = session::send(flooder.socket(), {{"id", i}, {"call", "nodes"}}, {file.get()});
        if (!sent) refused = sent.error().code();
    }
    EXPECT_EQ(refused, Errc::unavailable); // it is not read as long as it does not read
    auto other = a.session();
    EXPECT_TRUE(other.call("nodes").ok());
}

TEST_F(HostileProcess, OneThatDoesNotReadItsEventsIsEnded) {
    auto sleeper = a.session();
    ASSERT_TRUE(sleeper.call("interrupt_create", {{"number", 1}, {"data", true}}).ok());
    auto other = a.session();
    const Json number = {{"node", a.node()}, {"number", 1}, {"data", true}};
    bool ended = false;
    for (int i = 0; i < 5000 && !ended; ++i) {
        const auto connected = other.call("interrupt_connect", number);
        ended = !connected.ok();
        if (!ended) other.call("disconnect", {{"connection", connected.number("connection")}});
    }
    EXPECT_TRUE(ended);
    EXPECT_TRUE(sleeper.closed_by_agent());
}

TEST_F(HostileProcess, SessionsHaveALimit) {
    std::vector<RawSession> sessions;
    for (size_t i = 0; i < application::max_sessions; ++i)
        sessions.push_back(a.session());
    RawSession more(a.socket());
    EXPECT_EQ(more.hello().code(), "no_space");
    EXPECT_TRUE(more.closed_by_agent());
    sessions.pop_back();
    EXPECT_TRUE(eventually([&] { return a.counts().at("sessions") == application::max_sessions - 1; }));
    EXPECT_TRUE(RawSession(a.socket()).hello().ok());
}

} // namespace
} // namespace lanepool::test
