// SPDX-License-Identifier: Apache-2.0
//
// The fake is what others' tests rest on: that it keeps to the module's order, and what a test does reaches
// who uses it.
#include "bridge/fake_bridge.h"
#include "bridge/shown_config.h"
#include "smartio/config_image_for_test.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

namespace lanepool::bridge {
namespace {

using State = FakeInjected::State;
using testing::ElementsAre;
using testing::SizeIs;

Description small() {
    const auto config = smartio::test::sample_config();
    const auto shown = shown_config({config, {16384, 0, 0, 0, 0, 0}, 2, 2, false});
    Description description;
    description.config = shown->config;
    const auto adapter = share(*create_memory("adapter", 16384));
    description.bars[0] = {{adapter, 0, 16384}, true, true};
    description.pool_bytes = 8192;
    return description;
}

std::vector<Event::Kind> kinds(Function& function) {
    std::vector<Event::Kind> result;
    const auto events = function.take_events();
    for (const auto& event : *events)
        result.push_back(event.kind);
    return result;
}

bool readable(int fd) {
    pollfd poller{fd, POLLIN, 0};
    return ::poll(&poller, 1, 0) == 1;
}

class Fake : public testing::Test {
  protected:
    FakeBridge bridge;
    std::unique_ptr<Function> function = *bridge.open();
    std::shared_ptr<FakeInjected> injected = bridge.functions().at(0);
};

TEST_F(Fake, KeepsTheOrderOfCalls) {
    EXPECT_EQ(function->plug(0).error().code(), Errc::busy);
    EXPECT_EQ(function->unplug(false).error().code(), Errc::failed_precondition);
    EXPECT_FALSE(function->pool());
    EXPECT_FALSE(function->read_config(0, 4));
    ASSERT_TRUE(function->create(small()));
    EXPECT_EQ(function->create(small()).error().code(), Errc::busy);
    EXPECT_EQ(function->pool()->size_bytes, 8192u);
    EXPECT_EQ(function->plug(1).error().code(), Errc::invalid_argument);
    ASSERT_TRUE(function->plug(4096));
    EXPECT_EQ(injected->dma_base(), 4096u);
    EXPECT_EQ(function->plug(4096).error().code(), Errc::busy);
    ASSERT_TRUE(function->unplug(false));
    EXPECT_FALSE(function->set_vectors(0, std::array{1}));
    EXPECT_THAT(kinds(*function), ElementsAre(Event::Kind::removed, Event::Kind::released));
    EXPECT_FALSE(injected->surprised());
}

TEST_F(Fake, ARemovalCanTakeItsTime) {
    injected->hold_removal(true);
    ASSERT_TRUE(function->create(small()));
    ASSERT_TRUE(function->plug(0));
    ASSERT_TRUE(function->unplug(false));
    EXPECT_EQ(injected->state(), State::removing);
    ASSERT_TRUE(function->unplug(true));
    EXPECT_TRUE(injected->surprised());
    EXPECT_THAT(kinds(*function), SizeIs(0));
    injected->driver_leaves();
    EXPECT_THAT(kinds(*function), ElementsAre(Event::Kind::removed));
    injected->memory_released();
    EXPECT_THAT(kinds(*function), ElementsAre(Event::Kind::released));
}

TEST_F(Fake, TellsOfWhatDriversDo) {
    ASSERT_TRUE(function->create(small()));
    ASSERT_TRUE(function->plug(0));
    EXPECT_FALSE(readable(function->event_fd()));
    injected->drivers_offered();
    injected->driver_writes(pci::config::command, 2, 0x0006);
    injected->driver_writes(smartio::test::at::vendor, 4, 0xffffffff); // nobody notices, and nothing is kept
    EXPECT_TRUE(readable(function->event_fd()));
    const auto events = *function->take_events();
    ASSERT_THAT(events, SizeIs(2));
    EXPECT_EQ(events[1].kind, Event::Kind::config_write);
    EXPECT_EQ(events[1].value, 6u);
    EXPECT_EQ(function->read_config(pci::config::command, 2)->at(0), std::byte{6});
    EXPECT_EQ(function->read_config(smartio::test::at::vendor, 1)->at(0), std::byte{9});
    EXPECT_FALSE(readable(function->event_fd()));
}

TEST_F(Fake, NothingIsWrittenDuringAReset) {
    ASSERT_TRUE(function->create(small()));
    ASSERT_TRUE(function->plug(0));
    injected->driver_resets();
    injected->driver_writes(pci::config::command, 2, 0x0006);
    EXPECT_THAT(kinds(*function), ElementsAre(Event::Kind::reset));
    ASSERT_TRUE(function->end_reset());
    EXPECT_FALSE(injected->resetting());
}

TEST_F(Fake, ClosingIsASurprise) {
    ASSERT_TRUE(function->create(small()));
    ASSERT_TRUE(function->plug(0));
    function.reset();
    EXPECT_TRUE(injected->closed());
    EXPECT_TRUE(injected->surprised());
    EXPECT_EQ(injected->state(), State::released);
}

TEST_F(Fake, RefusesWhatTheModuleRefuses) {
    const auto refused = [&](auto change) {
        auto description = small();
        change(description);
        return !function->create(description);
    };
    EXPECT_TRUE(refused([](auto& d) { d.config.values[pci::config::interrupt_pin] = std::byte{1}; }));
    EXPECT_TRUE(refused([](auto& d) { d.config.vector_count = 1; }));
    EXPECT_TRUE(refused([](auto& d) { d.bars[1] = d.bars[0]; }));
    EXPECT_TRUE(refused([](auto& d) { d.bars[2] = d.bars[0]; }));
    EXPECT_TRUE(refused([](auto& d) { d.bars[0].memory.size_bytes = 12345; }));
    EXPECT_TRUE(refused([](auto& d) { d.pool_bytes = 0; }));
    EXPECT_TRUE(refused([](auto& d) { d.held.resize(9, d.bars[0].memory.fd); }));
    EXPECT_TRUE(refused([](auto& d) { d.dma_mode = DmaMode::iommu; }));
    EXPECT_TRUE(function->create(small()));
}

TEST_F(Fake, FailsOnceWhereItIsTold) {
    injected->fail_next("create", Error(Errc::no_space, "no room"));
    EXPECT_EQ(function->create(small()).error().code(), Errc::no_space);
    EXPECT_TRUE(function->create(small()));
}

} // namespace
} // namespace lanepool::bridge
