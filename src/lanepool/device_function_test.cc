// SPDX-License-Identifier: Apache-2.0
#include "lanepool/device_function.h"

#include "lanepool/test_agent.h"
#include "pci/config_space.h"

namespace lanepool {
namespace {

using pci::Region;
using std::chrono::seconds;

class DeviceFunctionTest : public testing::Test {
  protected:
    // BAR 0 is memory; of BAR 2 only the second page is.
    DeviceFunctionTest() {
        const Json none = {{"size", 0}, {"mapped", false}};
        const Json bar = {{"size", 8192}, {"mapped", true}};
        agent.on("device_borrow", {{"device", 2},
                                   {"loan", 1},
                                   {"node", 1},
                                   {"due_us", 0},
                                   {"interrupts", 3},
                                   {"config", "4d1408a8" + std::string(120, '0')},
                                   {"bars", Json::array({bar, none, bar, none, none, none})}});
        agent.on("device_bar", [this](const session::Message& call) -> TestAgent::Reply {
            const bool first = call.body["bar"] == 0;
            const Json extent = {
                {"offset", first ? 0 : 4096}, {"size", first ? 8192 : 4096}, {"fd_offset", 0}};
            return {{{"connection", 5}, {"size", 8192}, {"extents", Json::array({extent})}}, {memory.get()}};
        });
        agent.on("register_read", {{"value", 0x1234}});
        auto borrowed = DeviceFunction::borrow(session, 7, Sharing::exclusive, seconds(1));
        EXPECT_TRUE(borrowed) << borrowed.error().message();
        function = std::move(*borrowed);
    }

    UniqueFd memory = *create_memory("bar", 8192);
    Mapping registers = *Mapping::create(memory.get(), 0, 8192);
    TestAgent agent;
    Session session = *Session::open(agent.options());
    std::unique_ptr<DeviceFunction> function;
};

TEST_F(DeviceFunctionTest, ReachesMappedRegistersWithoutCalls) {
    EXPECT_EQ(function->region(Region::bar0).size_bytes, 8192u);
    EXPECT_EQ(function->region(Region::bar0).mappable.size(), 1u);
    EXPECT_EQ(function->region(Region::bar1).size_bytes, 0u);
    ASSERT_TRUE(pci::write32(*function, Region::bar0, 4, 0xdead'beef));
    EXPECT_EQ(registers.data()[4], std::byte{0xef});
    registers.data()[8] = std::byte{1};
    EXPECT_EQ(*pci::read64(*function, Region::bar0, 8), 1u);
    std::array<std::byte, 7> odd{};
    ASSERT_TRUE(function->read(Region::bar0, 3, odd));
    EXPECT_EQ(odd[1], std::byte{0xef});
    EXPECT_EQ(odd[5], std::byte{1});
    EXPECT_EQ(agent.count("register_read") + agent.count("register_write"), 0u);
    EXPECT_EQ(code(pci::read32(*function, Region::bar0, 8190)), Errc::out_of_range);
    EXPECT_EQ(code(pci::read32(*function, Region::bar1, 0)), Errc::out_of_range);
    EXPECT_EQ(code(pci::read32(*function, Region::rom, 0)), Errc::out_of_range);
}

TEST_F(DeviceFunctionTest, ReachesOtherRegistersByCalls) {
    EXPECT_EQ(*pci::read32(*function, Region::bar2, 16), 0x1234u);
    const auto call = agent.next("register_read");
    EXPECT_EQ(call["bar"], 2);
    EXPECT_EQ(call["width"], 4);
    ASSERT_TRUE(pci::write64(*function, Region::bar2, 16, 99));
    EXPECT_EQ(agent.next("register_write")["value"], 99);
    // What is memory can be mapped all the same.
    const auto extents = function->memory(Region::bar2, 0, 5000);
    ASSERT_TRUE(extents);
    ASSERT_EQ(extents->size(), 1u);
    EXPECT_EQ((*extents)[0].offset_bytes, 4096u);
    EXPECT_EQ((*extents)[0].memory.size_bytes, 904u);
    EXPECT_EQ((*extents)[0].memory.offset_bytes, 0u);
}

TEST_F(DeviceFunctionTest, HasItsOwnCommandRegister) {
    EXPECT_EQ(*pci::read16(*function, Region::config, pci::config::vendor_id), 0x144d);
    ASSERT_TRUE(pci::write16(*function, Region::config, pci::config::command, pci::command::bus_master));
    EXPECT_EQ(*pci::read16(*function, Region::config, pci::config::command), pci::command::bus_master);
    EXPECT_EQ(code(pci::write32(*function, Region::config, pci::config::bar0, 0)), Errc::not_supported);
    EXPECT_EQ(code(pci::read32(*function, Region::config, 64)), Errc::out_of_range);
}

TEST_F(DeviceFunctionTest, TurnsInterruptsOnAndOff) {
    EXPECT_EQ(function->irq(pci::Irq::msix).count, 3u);
    EXPECT_EQ(function->irq(pci::Irq::msi).count, 0u);
    const auto eventfd = *create_eventfd();
    const std::array fds{eventfd.get(), -1};
    ASSERT_TRUE(function->set_irqs(pci::Irq::msix, 1, fds));
    EXPECT_EQ(agent.next("device_interrupt")["vector"], 1);
    ASSERT_TRUE(function->set_irqs(pci::Irq::msix, 0, {}));
    EXPECT_EQ(agent.next("device_interrupt")["vector"], 1); // only what was on
    EXPECT_EQ(agent.count("device_interrupt"), 2u);
    EXPECT_EQ(code(function->set_irqs(pci::Irq::msix, 2, fds)), Errc::out_of_range);
    EXPECT_EQ(code(function->set_irqs(pci::Irq::msi, 0, fds)), Errc::out_of_range);
}

TEST_F(DeviceFunctionTest, RefusesWhatTheLenderDoes) {
    EXPECT_FALSE(function->can_reset());
    EXPECT_EQ(code(function->reset()), Errc::not_supported);
    const auto range = *Range<Iova>::create({4096}, 4096);
    const auto fd = share(*create_memory("x", 4096));
    EXPECT_EQ(code(function->map_dma(range, MemoryRef{fd, 0, 4096}, Access::read_write)),
              Errc::not_supported);
}

TEST_F(DeviceFunctionTest, SaysWhenTheLoanIsOver) {
    Heard<int> heard;
    function->on_disconnect([&] { heard.say(1); });
    agent.say({{"event", "device_lost"}, {"device", 2}, {"reason", "reclaimed"}});
    EXPECT_EQ(heard.next(), 1);
    EXPECT_EQ(code(pci::read32(*function, Region::bar0, 0)), Errc::disconnected);
    function->on_disconnect([&] { heard.say(2); }); // for who asks late
    EXPECT_EQ(heard.next(), 2);
    function.reset();
    EXPECT_EQ(agent.next("device_return")["device"], 2);
}

} // namespace
} // namespace lanepool
