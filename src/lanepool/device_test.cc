// SPDX-License-Identifier: Apache-2.0
#include "lanepool/device.h"

#include "lanepool/test_agent.h"

#include <sys/mman.h>

namespace lanepool {
namespace {

using std::chrono::seconds;

class DeviceTest : public testing::Test {
  protected:
    DeviceTest() {
        agent.on("device_borrow", loan);
        agent.on("segment_create", {{"segment", 1}, {"segment_id", 4}});
        agent.on("device_map", {{"mapping", 6}, {"address", 0x7000'0000}});
        agent.on("device_bar", {{"connection", 5}, {"size", 8192}, {"extents", list}}, {memory.get()});
        agent.on("device_segment", {{"connection", 8}, {"size", 8192}, {"extents", list}}, {memory.get()});
    }
    // An NVMe drive's: 144d:a808, class 01 08 02, revision 3, subsystem 1af4:1100.
    static std::string config() {
        std::string text(128, '0');
        text.replace(0, 8, "4d1408a8").replace(16, 8, "03020801").replace(88, 8, "f41a0011");
        return text;
    }
    Result<Device> borrow(BorrowOptions options = {}, Sharing sharing = Sharing::exclusive) {
        return Device::borrow(session, 0x80001, sharing, seconds(5), std::move(options));
    }

    const Json none = {{"size", 0}, {"mapped", false}};
    const Json bar0 = {{"size", 8192}, {"mapped", true}};
    const Json loan = {{"device", 2},
                       {"loan", 17},
                       {"node", 3},
                       {"due_us", 1000},
                       {"interrupts", 4},
                       {"config", config()},
                       {"bars", Json::array({bar0, none, none, none, none, none})}};
    const Json list = Json::array({Json{{"offset", 0}, {"size", 8192}, {"fd_offset", 0}}});
    UniqueFd memory = *create_memory("bar", 8192);
    TestAgent agent;
    Session session = *Session::open(agent.options());
};

TEST_F(DeviceTest, AreListedAsTheFilterSays) {
    Json drive = {{"fdid", 0x80001},     {"name", "drive"},       {"host", "h2"},   {"node", 2},
                  {"state", "lent"},     {"reason", ""},          {"kind", "nvme"}, {"vendor_id", 0x144d},
                  {"device_id", 0xa808}, {"class_code", 0x10802}, {"model", "M"},   {"serial", "S1"},
                  {"borrower", "me@h1"}};
    Json gpu = drive;
    gpu["fdid"] = 0x80002;
    gpu["class_code"] = 0x30000;
    gpu["kind"] = "gpu";
    agent.on("device_list", {{"devices", Json::array({drive, gpu})}});
    EXPECT_EQ(Device::list(session)->size(), 2u);
    const auto drives = Device::list(session, {.class_code = 0x10802});
    ASSERT_TRUE(drives);
    ASSERT_EQ(drives->size(), 1u);
    EXPECT_EQ((*drives)[0].serial, "S1");
    EXPECT_EQ((*drives)[0].borrower, "me@h1");
    EXPECT_EQ((*drives)[0].node, 2u);
    EXPECT_EQ(Device::list(session, {.vendor_id = 0x144d, .kind = "gpu"})->size(), 1u);
    EXPECT_EQ(Device::list(session, {.node = 9})->size(), 0u);
    for (const char* field : {"fdid", "vendor_id", "node", "serial"}) {
        Json wrong = drive;
        wrong[field] = Json::array();
        agent.on("device_list", {{"devices", Json::array({wrong})}});
        EXPECT_EQ(code(Device::list(session)), Errc::protocol) << field;
    }
    agent.on("device_list", {{"devices", 1}});
    EXPECT_EQ(code(Device::list(session)), Errc::protocol);
}

TEST_F(DeviceTest, IsBorrowedAndGivenBack) {
    auto device = borrow();
    ASSERT_TRUE(device) << device.error().message();
    const auto call = agent.next("device_borrow");
    EXPECT_EQ(call["fdid"], 0x80001);
    EXPECT_EQ(call["exclusive"], true);
    EXPECT_EQ(call["timeout_ms"], 5000);
    EXPECT_EQ(device->fdid(), 0x80001u);
    EXPECT_EQ(device->loan(), 17u);
    EXPECT_EQ(device->node(), 3u);
    EXPECT_EQ(device->due_us(), 1000u);
    EXPECT_EQ(device->interrupts(), 4u);
    EXPECT_EQ(device->identity().vendor_id, 0x144d);
    EXPECT_EQ(device->identity().device_id, 0xa808);
    EXPECT_EQ(device->identity().class_code, 0x010802u);
    EXPECT_EQ(device->identity().revision, 3);
    EXPECT_EQ(device->identity().subsystem_vendor_id, 0x1af4);
    EXPECT_EQ(device->identity().subsystem_id, 0x1100);
    EXPECT_TRUE(device->give_back());
    EXPECT_EQ(agent.next("device_return")["device"], 2);
    EXPECT_EQ(code(device->give_back()), Errc::failed_precondition);
    EXPECT_EQ(code(device->bar(0)), Errc::failed_precondition);
    agent.refuse("device_borrow", Errc::permission_denied);
    EXPECT_EQ(code(borrow()), Errc::permission_denied);
}

TEST_F(DeviceTest, ALoanThatCannotBeIsGivenBack) {
    const auto with = [&](const char* field, Json value) {
        Json wrong = loan;
        wrong[field] = std::move(value);
        return wrong;
    };
    for (const Json& wrong : {with("config", "00"), with("config", std::string(128, 'x')),
                              with("bars", Json::array()), with("bars", 6), with("interrupts", 1 << 20),
                              with("node", uint64_t{1} << 40), with("due_us", -1)}) {
        agent.on("device_borrow", wrong);
        EXPECT_EQ(code(borrow()), Errc::protocol) << wrong;
        EXPECT_EQ(agent.next("device_return")["device"], 2);
    }
}

TEST_F(DeviceTest, ItsBarIsMemory) {
    auto device = *borrow();
    EXPECT_EQ(device.bar_size_bytes(0), 8192u);
    EXPECT_EQ(device.bar_size_bytes(1), 0u);
    EXPECT_EQ(device.bar_size_bytes(6), 0u);
    EXPECT_EQ(code(device.bar(1)), Errc::not_found);
    EXPECT_EQ(code(device.bar(6)), Errc::out_of_range);
    const auto bar = device.bar(0);
    ASSERT_TRUE(bar) << bar.error().message();
    bar->map()->data()[4096] = std::byte{5};
    EXPECT_EQ(Mapping::create(memory.get(), 0, 8192)->data()[4096], std::byte{5});
    // A device's own server may have made its memory in any way.
    const UniqueFd unsealed(::memfd_create("x", 0));
    ASSERT_EQ(::ftruncate(unsealed.get(), 8192), 0);
    agent.on("device_bar", {{"connection", 5}, {"size", 8192}, {"extents", list}}, {unsealed.get()});
    EXPECT_TRUE(device.bar(0));
}

TEST_F(DeviceTest, RegistersAreReachedByCalls) {
    agent.on("device_bar", {{"connection", 5}, {"size", 256}, {"extents", Json::array()}});
    auto device = *borrow();
    auto bar = *device.bar(0);
    EXPECT_FALSE(bar.mappable());
    EXPECT_EQ(code(bar.map()), Errc::not_supported);
    agent.on("register_read", {{"value", 0xffff'fffe}});
    EXPECT_EQ(*bar.read(0x1c, 4), 0xffff'fffeu);
    const auto read = agent.next("register_read");
    EXPECT_EQ(read["device"], 2);
    EXPECT_EQ(read["offset"], 0x1c);
    EXPECT_EQ(read["width"], 4);
    EXPECT_EQ(code(bar.read(0x1c, 2)), Errc::protocol); // more than a register of two bytes has
    ASSERT_TRUE(bar.write(0x1c, 8 / 2, 7));
    EXPECT_EQ(agent.next("register_write")["value"], 7);
    EXPECT_EQ(code(bar.read(0x1c, 3)), Errc::invalid_argument);
    EXPECT_EQ(code(bar.read(0x1c, 8)), Errc::invalid_argument);
    EXPECT_EQ(code(bar.read(0x1c, 16)), Errc::invalid_argument);
    EXPECT_EQ(code(bar.read(256, 4)), Errc::out_of_range);
    EXPECT_EQ(code(bar.read(UINT64_MAX - 3, 4)), Errc::out_of_range);
    EXPECT_EQ(code(bar.write(0, 1, 256)), Errc::invalid_argument);
}

TEST_F(DeviceTest, ReachesMemoryAsLongAsItIsMapped) {
    auto device = *borrow();
    auto segment = *Segment::create(session, {.size_bytes = 16384, .is_private = true});
    {
        const auto mapping = device.map(segment, {.offset_bytes = 4096, .access = Access::read_only});
        ASSERT_TRUE(mapping) << mapping.error().message();
        const auto call = agent.next("device_map");
        EXPECT_EQ(call["segment"], 1);
        EXPECT_EQ(call["offset"], 4096);
        EXPECT_EQ(call["size"], 12288);
        EXPECT_EQ(call["read_only"], true);
        EXPECT_EQ(mapping->address(), 0x7000'0000u);
        EXPECT_EQ(mapping->size_bytes(), 12288u);
    }
    EXPECT_EQ(agent.next("device_unmap")["mapping"], 6);
    auto mapping = *device.map(segment);
    agent.refuse("device_unmap", Errc::busy);
    EXPECT_EQ(code(mapping.unmap()), Errc::busy);
    agent.on("device_unmap", Json::object());
    EXPECT_TRUE(mapping.unmap());
    EXPECT_EQ(code(mapping.unmap()), Errc::failed_precondition);
    EXPECT_EQ(code(device.map(segment, {.offset_bytes = 100, .size_bytes = 4096})), Errc::invalid_argument);
    EXPECT_EQ(code(device.map(segment, {.size_bytes = 5000})), Errc::invalid_argument);
    EXPECT_EQ(code(device.map(segment, {.offset_bytes = 12288, .size_bytes = 8192})), Errc::out_of_range);
}

TEST_F(DeviceTest, ReachesAnotherDevicesBar) {
    auto device = *borrow();
    const auto bar = *device.bar(0);
    ASSERT_TRUE(device.map(bar));
    const auto call = agent.next("device_map");
    EXPECT_EQ(call["connection"], 5);
    EXPECT_EQ(call["read_only"], false);
}

TEST_F(DeviceTest, AnAddressThatWrapsIsNone) {
    auto device = *borrow();
    auto segment = *Segment::create(session, {.size_bytes = 8192});
    agent.on("device_map", {{"mapping", 6}, {"address", UINT64_MAX - 4095}});
    EXPECT_EQ(code(device.map(segment)), Errc::protocol);
    EXPECT_EQ(agent.next("device_unmap")["mapping"], 6);
}

TEST_F(DeviceTest, HasMemoryBesideIt) {
    auto device = *borrow();
    ASSERT_TRUE(device.create_memory(9, 8192, DeviceMemoryScope::all));
    const auto made = agent.next("device_segment_create");
    EXPECT_EQ(made["segment_id"], 9);
    EXPECT_EQ(made["size"], 8192);
    EXPECT_EQ(made["shared"], true);
    const auto beside = *device.connect_memory(9, DeviceMemoryScope::loan);
    EXPECT_EQ(agent.next("device_segment")["shared"], false);
    EXPECT_EQ(beside.size_bytes(), 8192u);
    ASSERT_TRUE(device.map(beside));
    EXPECT_EQ(agent.next("device_map")["connection"], 8);
    ASSERT_TRUE(device.remove_memory(9, DeviceMemoryScope::all));
    agent.refuse("device_segment_create", Errc::already_exists);
    EXPECT_EQ(code(device.create_memory(9, 8192, DeviceMemoryScope::all)), Errc::already_exists);
}

TEST_F(DeviceTest, SignalsItsInterrupts) {
    auto device = *borrow();
    UniqueFd theirs;
    agent.on("device_interrupt", [&](const session::Message& call) -> TestAgent::Reply {
        theirs = call.fds.empty() ? UniqueFd() : *call.fds[0].duplicate();
        return {};
    });
    const auto eventfd = *create_eventfd();
    ASSERT_TRUE(device.set_interrupt(2, eventfd));
    EXPECT_EQ(agent.next("device_interrupt")["vector"], 2);
    signal(theirs);
    EXPECT_EQ(drain(eventfd), 1u);
    ASSERT_TRUE(device.set_interrupt(2, UniqueFd()));
    EXPECT_FALSE(theirs);
}

TEST_F(DeviceTest, ItsEndIsTold) {
    Heard<std::string> heard;
    auto device = *borrow(
        {.on_due = [&](uint64_t due, const std::string& why) { heard.say(std::to_string(due) + why); },
         .on_lost = [&](const Error& why) { heard.say(why.message()); }});
    auto segment = *Segment::create(session, {.size_bytes = 4096});
    const auto bar = *device.bar(0);
    const auto registers = *bar.map();
    auto mapping = *device.map(segment);
    agent.say({{"event", "device_due"}, {"device", 2}, {"due_us", 99}, {"reason", " soon"}});
    EXPECT_EQ(heard.next(), "99 soon");
    EXPECT_EQ(device.due_us(), 99u);
    agent.say({{"event", "device_lost"}, {"device", 2}, {"reason", "reclaimed"}});
    EXPECT_EQ(heard.next(), "reclaimed");
    EXPECT_EQ(code(device.bar(0)), Errc::disconnected);
    EXPECT_EQ(code(device.map(segment)), Errc::disconnected);
    registers.data()[0] = std::byte{1}; // leads to nobody
    agent.refuse("device_unmap", Errc::not_found);
    EXPECT_TRUE(mapping.unmap());
}

} // namespace
} // namespace lanepool
