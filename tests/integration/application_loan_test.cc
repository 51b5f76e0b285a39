// SPDX-License-Identifier: Apache-2.0
//
// A process of one host uses a device of another, through its agent: from its socket to the device and back.
#include "integration/application_hosts.h"

#include <cstring>
#include <gmock/gmock.h>

namespace lanepool::test {
namespace {

constexpr uint64_t page = 4096;

// Host 0 lends; processes of hosts 0 and 1 use.
class Loans : public testing::Test {
  protected:
    Loans()
        : fabric(folder, 3), store(fabric, folder, 0, &controller_of_store),
          a(fabric, folder, 1, &controller), engine(folder), lending(store.host, engine.path()),
          controller(lending, store.host), controller_of_store(lending, store.host) {
        controller.borrower = &a;
        controller_of_store.borrower = &store;
    }
    ~Loans() override {
        controller.stop();
        controller_of_store.stop();
        store.die(); // before the lender goes
        a.die();
    }
    void SetUp() override {
        ASSERT_TRUE(eventually([&] { return a.sees(store) && store.sees(a); }));
        ASSERT_TRUE(lending.reset());
        counts = a.counts();
    }

    TemporaryFolder folder;
    Fabric fabric;
    ApplicationHost store;
    ApplicationHost a;
    ServedEngine engine;
    Lending lending;
    OneDevice controller;
    OneDevice controller_of_store;
    Json counts;
};

// What a driver in a process does with the device.
struct Driver {
    explicit Driver(RawSession& of, bool exclusive = true) : session(of) {
        borrowed = session.call("device_borrow",
                                {{"fdid", test_fdid}, {"exclusive", exclusive}, {"timeout_ms", 5000}});
        handle = borrowed.number("device");
    }
    RawSession::Answer call(const char* name, Json arguments, const std::vector<int>& fds = {}) {
        arguments["device"] = handle;
        return session.call(name, arguments, fds);
    }
    uint64_t read(uint64_t offset, unsigned width) {
        const auto answer = call("register_read", {{"bar", 0}, {"offset", offset}, {"width", width}});
        EXPECT_TRUE(answer.ok()) << answer.body;
        return answer.number("value");
    }
    void write(uint64_t offset, unsigned width, uint64_t value) {
        const auto answer =
            call("register_write", {{"bar", 0}, {"offset", offset}, {"width", width}, {"value", value}});
        EXPECT_TRUE(answer.ok()) << answer.body;
    }
    // Segments of the process itself.
    uint64_t make_segment(uint64_t pages) {
        memory = must(create_memory("buffer", pages * page));
        bytes = must(Mapping::create(memory.get(), 0, pages * page));
        const auto created =
            session.call("segment_create", {{"private", true}, {"size", pages * page}}, {memory.get()});
        EXPECT_TRUE(created.ok()) << created.body;
        return created.number("segment");
    }
    RawSession::Answer map(const char* kind, uint64_t what, uint64_t offset, uint64_t size) {
        return call("device_map", {{kind, what}, {"offset", offset}, {"size", size}});
    }
    // Whether the device has copied.
    bool copy(uint64_t from, uint64_t to, uint32_t size) {
        write(copy_engine::source, 8, from);
        write(copy_engine::destination, 8, to);
        write(copy_engine::size, 4, size);
        const auto copies = read(copy_engine::copies, 4), failures = read(copy_engine::failures, 4);
        const auto bar = call("device_bar", {{"bar", 0}});
        EXPECT_EQ(bar.fds.size(), 1u);
        const auto& extent = bar.body.at("extents").at(0);
        EXPECT_EQ(extent.at("offset"), copy_engine::doorbell);
        const auto doorbell =
            must(Mapping::create(bar.fds[0].get(), extent.at("fd_offset"), extent.at("size")));
        uint32_t rung;
        std::memcpy(&rung, doorbell.data(), sizeof rung);
        ++rung;
        std::memcpy(doorbell.data(), &rung, sizeof rung);
        bool copied = false;
        EXPECT_TRUE(eventually([&] {
            copied = read(copy_engine::copies, 4) != copies;
            return copied || read(copy_engine::failures, 4) != failures;
        }));
        return copied;
    }

    RawSession& session;
    RawSession::Answer borrowed;
    uint64_t handle = 0;
    UniqueFd memory;
    Mapping bytes;
};

TEST_F(Loans, AProcessDrivesADevice) {
    auto session = a.session();
    const auto list = session.call("device_list");
    ASSERT_EQ(list.body.at("devices").size(), 1u) << list.body;
    EXPECT_EQ(list.body["devices"][0].at("fdid"), test_fdid);
    EXPECT_EQ(list.body["devices"][0].at("class_code"), 0x088000);

    Driver driver(session);
    ASSERT_TRUE(driver.borrowed.ok()) << driver.borrowed.body;
    const Json& about = driver.borrowed.body;
    EXPECT_EQ(about.at("node"), store.node());
    EXPECT_EQ(about.at("loan"), 1u);
    EXPECT_EQ(about.at("due_us"), 1234u);
    EXPECT_EQ(about.at("config").get<std::string>().substr(0, 8), "361b1000");
    EXPECT_EQ(about.at("config").get<std::string>().size(), 128u);
    EXPECT_EQ(about.at("bars").at(0), (Json{{"size", copy_engine::bar0_bytes}, {"mapped", false}}));
    EXPECT_EQ(about.at("interrupts"), copy_engine::msi_vectors);

    driver.write(copy_engine::scratch, 8, 0x1122334455667788);
    EXPECT_EQ(driver.read(copy_engine::scratch, 8), 0x1122334455667788u);
    EXPECT_EQ(driver.read(copy_engine::scratch, 2), 0x7788u);
    EXPECT_EQ(
        driver.call("register_read", {{"bar", 0}, {"offset", copy_engine::bar0_bytes}, {"width", 4}}).code(),
        "out_of_range");
    EXPECT_EQ(driver.call("register_read", {{"bar", 0}, {"offset", 2}, {"width", 4}}).code(),
              "invalid_argument");
    EXPECT_EQ(driver.call("device_bar", {{"bar", 1}}).code(), "not_found");

    const auto segment = driver.make_segment(4);
    const auto interrupt = must(create_eventfd());
    EXPECT_TRUE(driver.call("device_interrupt", {{"vector", 0}}, {interrupt.get()}).ok());
    EXPECT_EQ(driver.call("device_interrupt", {{"vector", 0}}, {driver.memory.get()}).code(),
              "invalid_argument");
    const auto mapped = driver.map("segment", segment, page, 2 * page);
    ASSERT_TRUE(mapped.ok()) << mapped.body;
    std::memset(driver.bytes.data() + page, 7, page);
    EXPECT_TRUE(driver.copy(mapped.number("address"), mapped.number("address") + page, page));
    EXPECT_EQ(driver.bytes.data()[3 * page - 1], std::byte{7});
    EXPECT_EQ(driver.bytes.data()[3 * page], std::byte{0});
    EXPECT_TRUE(eventually([&] { return drain(interrupt) > 0; }));
    EXPECT_EQ(driver.map("segment", segment, page, 4 * page).code(), "out_of_range");
    EXPECT_EQ(driver.map("segment", segment, 100, page).code(), "invalid_argument");

    EXPECT_EQ(session.call("segment_remove", {{"segment", segment}}).code(), "busy");
    EXPECT_TRUE(session.call("device_unmap", {{"mapping", mapped.number("mapping")}}).ok());
    EXPECT_EQ(session.call("device_unmap", {{"mapping", mapped.number("mapping")}}).code(), "not_found");
    EXPECT_FALSE(driver.copy(mapped.number("address"), mapped.number("address") + page, page));
    EXPECT_TRUE(session.call("segment_remove", {{"segment", segment}}).ok());

    const auto again = driver.make_segment(4);
    EXPECT_TRUE(driver.map("segment", again, 0, page).ok());
    EXPECT_TRUE(driver.call("device_return", {}).ok()); // with its mappings
    EXPECT_EQ(driver.call("device_return", {}).code(), "not_found");
    EXPECT_EQ(driver.call("device_bar", {{"bar", 0}}).code(), "not_found");
    EXPECT_TRUE(session.call("segment_remove", {{"segment", again}}).ok());
    session.close();
    EXPECT_TRUE(eventually([&] { return a.counts() == counts; })) << a.counts() << counts;
    EXPECT_TRUE(eventually([&] { return lending.state() == smartio::LenderState::ready; }));
}

TEST_F(Loans, ADeviceReachesWhatItsProcessIsConnectedTo) {
    auto other = store.session();
    const auto memory = must(create_memory("other", 2 * page));
    const auto bytes = must(Mapping::create(memory.get(), 0, 2 * page));
    const auto created =
        other.call("segment_create", {{"segment_id", 9}, {"size", 2 * page}}, {memory.get()});
    ASSERT_TRUE(
        other.call("segment_available", {{"segment", created.number("segment")}, {"available", true}}).ok());

    auto session = a.session();
    Driver driver(session);
    const auto connected = session.call("segment_connect", {{"node", store.node()}, {"segment_id", 9}});
    ASSERT_TRUE(connected.ok());
    const auto mapped = driver.map("connection", connected.number("connection"), 0, 2 * page);
    ASSERT_TRUE(mapped.ok()) << mapped.body;
    std::memset(bytes.data(), 3, page);
    EXPECT_TRUE(driver.copy(mapped.number("address"), mapped.number("address") + page, page));
    EXPECT_EQ(bytes.data()[2 * page - 1], std::byte{3});
    const Json connection = {{"connection", connected.number("connection")}};
    EXPECT_EQ(session.call("disconnect", connection).code(), "busy");
    // Its owner dies: the device must not reach what comes to lie there.
    other.close();
    EXPECT_TRUE(session.event("connection_lost").body.contains("connection"));
    EXPECT_TRUE(eventually(
        [&] { return !driver.copy(mapped.number("address"), mapped.number("address") + page, page); }));
    EXPECT_EQ(session.call("device_unmap", {{"mapping", mapped.number("mapping")}}).code(), "not_found");
}

TEST_F(Loans, MemoryBesideADevice) {
    auto session = a.session();
    Driver driver(session);
    const Json segment = {{"segment_id", 4}, {"shared", false}};
    Json sized = segment;
    sized["size"] = 2 * page;
    EXPECT_TRUE(driver.call("device_segment_create", sized).ok());
    EXPECT_EQ(driver.call("device_segment_create", sized).code(), "already_exists");
    const auto connected = driver.call("device_segment", segment);
    ASSERT_TRUE(connected.ok()) << connected.body;
    EXPECT_EQ(connected.number("size"), 2 * page);
    const auto view = must(Mapping::create(connected.fds.at(0).get(), 0, 2 * page));
    const auto mapped = driver.map("connection", connected.number("connection"), 0, 2 * page);
    ASSERT_TRUE(mapped.ok()) << mapped.body;
    std::memset(view.data(), 9, page);
    EXPECT_TRUE(driver.copy(mapped.number("address"), mapped.number("address") + page, page));
    EXPECT_EQ(view.data()[2 * page - 1], std::byte{9});
    EXPECT_TRUE(
        session.call("disconnect", {{"connection", connected.number("connection")}, {"force", true}}).ok());
    EXPECT_FALSE(driver.copy(mapped.number("address"), mapped.number("address") + page, page));
    EXPECT_TRUE(driver.call("device_segment_remove", segment).ok());
    EXPECT_EQ(driver.call("device_segment", segment).code(), "not_found");
}

TEST_F(Loans, ADeadProcessLosesItsDeviceAtOnce) {
    {
        auto session = a.session();
        Driver driver(session);
        const auto segment = driver.make_segment(2);
        ASSERT_TRUE(driver.map("segment", segment, 0, 2 * page).ok());
    }
    EXPECT_TRUE(eventually([&] { return a.counts() == counts; })) << a.counts() << counts;
    EXPECT_EQ(lending.status().memory_maps, 0u);
    EXPECT_EQ(a.host.thread.run([&] { return a.broken_loans; }), std::vector<uint64_t>{1});
    ASSERT_TRUE(controller.end(1)); // as the controller does when it hears of it
    auto session = a.session();
    EXPECT_TRUE(Driver(session).borrowed.ok());
}

TEST_F(Loans, AReclaimedDeviceIsLost) {
    auto session = a.session();
    Driver driver(session);
    const auto segment = driver.make_segment(2);
    ASSERT_TRUE(driver.map("segment", segment, 0, 2 * page).ok());
    ASSERT_TRUE(driver.call("device_bar", {{"bar", 0}}).ok());
    ASSERT_TRUE(controller.end(1, true));
    EXPECT_EQ(session.event("device_lost").number("device"), driver.handle);
    EXPECT_EQ(driver.call("register_read", {{"bar", 0}, {"offset", 0}, {"width", 4}}).code(), "not_found");
    EXPECT_TRUE(session.call("segment_remove", {{"segment", segment}}).ok());
    EXPECT_TRUE(Driver(session).borrowed.ok()); // it may be borrowed anew
}

TEST_F(Loans, AProcessHearsWhenItsLoanEnds) {
    auto session = a.session();
    Driver driver(session);
    ASSERT_TRUE(driver.borrowed.ok());
    a.host.thread.run([&] { controller.dues = {{1, 5678, ""}, {2, 9, ""}}; });
    const auto later = session.event("device_due");
    EXPECT_EQ(later.number("device"), driver.handle);
    EXPECT_EQ(later.number("due_us"), 5678u);
    a.host.thread.run([&] { controller.dues = {{1, 5678, "its time is nearly over"}}; });
    EXPECT_EQ(session.event("device_due").body.at("reason"), "its time is nearly over");
}

TEST_F(Loans, SeveralShareADevice) {
    auto session = a.session();
    auto neighbour = store.session(); // the device's own host
    Driver one(session, false);
    ASSERT_TRUE(one.borrowed.ok()) << one.borrowed.body;
    EXPECT_EQ(one.borrowed.body.at("interrupts"), 0u);
    EXPECT_EQ(one.call("device_interrupt", {{"vector", 0}}).code(), "not_supported");
    auto second = a.session();
    Driver two(second, false);
    ASSERT_TRUE(two.borrowed.ok()) << two.borrowed.body;
    const Json segment = {{"segment_id", 4}, {"shared", true}, {"size", page}};
    EXPECT_TRUE(one.call("device_segment_create", segment).ok());
    const auto of_one = one.call("device_segment", {{"segment_id", 4}, {"shared", true}});
    const auto of_two = two.call("device_segment", {{"segment_id", 4}, {"shared", true}});
    ASSERT_TRUE(of_one.ok() && of_two.ok()) << of_two.body;
    must(Mapping::create(of_one.fds.at(0).get(), 0, page)).data()[3] = std::byte{3};
    EXPECT_EQ(must(Mapping::create(of_two.fds.at(0).get(), 0, page)).data()[3], std::byte{3});
    const auto alone =
        second.call("device_borrow", {{"fdid", test_fdid}, {"exclusive", true}, {"timeout_ms", 5000}});
    EXPECT_EQ(alone.code(), "busy");
    EXPECT_TRUE(one.call("device_return", {}).ok());
    EXPECT_EQ(two.read(copy_engine::copies, 4), 0u); // still there
}

TEST_F(Loans, AHostUsesItsOwnDevice) {
    auto session = store.session();
    Driver driver(session);
    ASSERT_TRUE(driver.borrowed.ok()) << driver.borrowed.body;
    const auto segment = driver.make_segment(2);
    const auto mapped = driver.map("segment", segment, 0, 2 * page);
    ASSERT_TRUE(mapped.ok()) << mapped.body;
    std::memset(driver.bytes.data(), 5, page);
    EXPECT_TRUE(driver.copy(mapped.number("address"), mapped.number("address") + page, page));
    EXPECT_EQ(driver.bytes.data()[2 * page - 1], std::byte{5});
    EXPECT_TRUE(driver.call("device_return", {}).ok());
}

TEST_F(Loans, OneThatIsNotReadyInTimeIsGivenBack) {
    a.host.thread.run([&] { controller.silent = true; });
    auto session = a.session();
    EXPECT_EQ(
        session.call("device_borrow", {{"fdid", test_fdid}, {"exclusive", true}, {"timeout_ms", 100}}).code(),
        "timeout");
    EXPECT_TRUE(eventually([&] { return a.counts().at("devices") == 0; })) << a.counts();
    EXPECT_EQ(a.host.thread.run([&] { return a.broken_loans; }), std::vector<uint64_t>{1});
}

TEST_F(Loans, AStepThatNobodyAskedForIsRefused) {
    application::AttachOrder order{
        {test_fdid, 99, 1}, store.host.partition(), false, std::chrono::milliseconds(20)};
    const auto result = await(a.host.thread, [&](auto done) { a.server().attach(order, done); });
    EXPECT_EQ(result.error().code(), Errc::not_found);
    EXPECT_TRUE(await(a.host.thread, [&](auto done) { a.server().detach(99, done); }));
}

} // namespace
} // namespace lanepool::test
