// SPDX-License-Identifier: Apache-2.0
//
// Channels of several hosts over the virtual switch, each host on its own thread.
#include "integration/ntb_host.h"
#include "ntb/mailbox.h"

#include <cstring>
#include <random>

namespace lanepool::ntb {
namespace {

using integration::host;
using integration::Host;
using integration::VirtualSwitch;

TEST(ChannelOverSwitch, ThreeHostsTalkToEachOther) {
    VirtualSwitch fabric(3);
    Host zero(fabric, 0), one(fabric, 1), two(fabric, 2);
    std::array<Host*, 3> hosts = {&zero, &one, &two};
    for (unsigned i = 0; i < 3; ++i)
        for (unsigned k = 0; k < 3; ++k)
            if (i != k) {
                EXPECT_TRUE(eventually([&] { return hosts[i]->alive(k); })) << i << " " << k;
            }
    for (unsigned i = 0; i < 3; ++i)
        for (unsigned k = 0; k < 3; ++k)
            if (i != k) {
                EXPECT_TRUE(hosts[i]->echoes(k, max_channel_body_bytes));
            }
    EXPECT_EQ(zero.ask(1, std::vector<std::byte>(max_channel_body_bytes + 1)).error().code(),
              Errc::invalid_argument);
    EXPECT_EQ(zero.deaths + one.deaths + two.deaths, 0);
}

TEST(ChannelOverSwitch, AKilledHostIsMissedAndMetAgain) {
    VirtualSwitch fabric(3);
    Host zero(fabric, 0), one(fabric, 1);
    auto two = std::make_unique<Host>(fabric, 2);
    EXPECT_TRUE(eventually([&] { return zero.alive(2) && one.alive(2) && zero.alive(1) && two->alive(0); }));
    for (int round = 0; round < 3; ++round) {
        fabric.unplug(2);
        two.reset();
        EXPECT_TRUE(eventually([&] { return !zero.alive(2) && !one.alive(2); }));
        EXPECT_EQ(zero.ask(2, {}).error().code(), Errc::unavailable);
        EXPECT_TRUE(zero.echoes(1));
        fabric.plug(2);
        two = std::make_unique<Host>(fabric, 2);
        EXPECT_TRUE(
            eventually([&] { return zero.alive(2) && two->alive(0) && one.alive(2) && two->alive(1); }));
        EXPECT_TRUE(zero.echoes(2) && two->echoes(1) && one.echoes(2));
    }
}

TEST(ChannelOverSwitch, ALinkThatGoesDownAndUpIsNoticed) {
    VirtualSwitch fabric(3);
    Host zero(fabric, 0), one(fabric, 1), two(fabric, 2);
    EXPECT_TRUE(eventually([&] { return zero.alive(1) && one.alive(0) && zero.alive(2) && two.alive(1); }));
    for (int round = 0; round < 3; ++round) {
        fabric.enable_link(1, false);
        EXPECT_TRUE(eventually([&] { return !zero.alive(1) && !one.alive(0) && !two.alive(1); }));
        EXPECT_EQ(zero.ask(1, {}).error().code(), Errc::unavailable);
        EXPECT_TRUE(zero.echoes(2));
        fabric.enable_link(1, true);
        EXPECT_TRUE(eventually([&] { return zero.alive(1) && one.alive(0) && two.alive(1); }));
        EXPECT_TRUE(zero.echoes(1) && one.echoes(0));
    }
    EXPECT_EQ(zero.deaths, 3);
}

TEST(ChannelOverSwitch, ManyThreadsMayAskAtOnce) {
    VirtualSwitch fabric(2);
    Host zero(fabric, 0), one(fabric, 1);
    EXPECT_TRUE(eventually([&] { return zero.alive(1) && one.alive(0); }));
    std::atomic<int> good{0};
    std::vector<std::thread> threads;
    for (size_t t = 0; t < 4; ++t)
        threads.emplace_back([&, t] {
            for (size_t i = 0; i < 100; ++i)
                good += (t % 2 == 0 ? zero : one).echoes(t % 2 == 0 ? 1 : 0, 50 * i + t);
        });
    for (auto& thread : threads)
        thread.join();
    EXPECT_EQ(good, 400);
    EXPECT_EQ(one.served, 200);
}

// A host whose software writes what it likes where the others look.
TEST(ChannelOverSwitch, AHostileHostDisturbsOnlyItself) {
    VirtualSwitch fabric(3);
    Host zero(fabric, 0), one(fabric, 1);
    auto hostile = fabric.adapter(2);
    EXPECT_TRUE(eventually([&] { return zero.alive(1) && one.alive(0); }));
    auto window =
        hostile->open_window({host(0), mailbox::areas_address + 2 * mailbox::area_bytes, mailbox::area_bytes})
            .value();
    auto area = window.map().value();
    std::mt19937 random(3);
    const uint64_t signature = mailbox::signature;
    std::memcpy(area.data(), &signature, 8);
    for (int i = 0; i < 2000; ++i) {
        uint64_t word = random() % 3 == 0 ? random() % 70000 : uint64_t{random()} << 32 | random();
        const size_t where =
            random() % 2 == 0 ? 8 * (1 + random() % 6) : 8 * (random() % (mailbox::area_bytes / 8));
        if (where != 0) std::memcpy(area.data() + where, &word, 8);
        if (i % 10 == 0) [[maybe_unused]]
            auto sent = hostile->send_message(host(0), 0x6c70'0001);
        if (i % 100 == 0) {
            EXPECT_TRUE(zero.echoes(1));
        }
    }
    EXPECT_TRUE(zero.echoes(1) && one.echoes(0));
    EXPECT_EQ(zero.deaths + one.deaths, 0);
    // An honest channel of that host is met as if nothing had been.
    EXPECT_TRUE(window.close());
    hostile.reset();
    Host two(fabric, 2);
    EXPECT_TRUE(eventually([&] { return zero.alive(2) && two.alive(0); }));
    EXPECT_TRUE(zero.echoes(2));
}

TEST(ChannelOverSwitch, AFabricThatDiesEndsEverythingOrderly) {
    VirtualSwitch fabric(2);
    Host zero(fabric, 0), one(fabric, 1);
    EXPECT_TRUE(eventually([&] { return zero.alive(1) && one.alive(0); }));
    fabric.stop();
    // The memory between the hosts is still there, and so are they: only new ways cannot be opened.
    EXPECT_FALSE(zero.adapter->open_window({host(1), BusAddress{0}, 4096}));
}

TEST(ChannelOverSwitch, OneChannelAnAdapter) {
    VirtualSwitch fabric(1);
    auto adapter = fabric.adapter(0);
    auto loop = io::EventLoop::create().value();
    auto first = Channel::create(*loop, *adapter, {}).value();
    EXPECT_EQ(Channel::create(*loop, *adapter, {}).error().code(), Errc::already_exists);
    first.reset();
    EXPECT_TRUE(Channel::create(*loop, *adapter, {}));
}

} // namespace
} // namespace lanepool::ntb
