// SPDX-License-Identifier: Apache-2.0
//
// Our own adapter driver on the model, through sockets: what one demands, the other offers.
#include "base/temporary_folder.h"
#include "fabric/sockets.h"
#include "ntb/adapter.h"
#include "vfio_user/client.h"

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <gtest/gtest.h>
#include <mutex>
#include <thread>

namespace lanepool::fabric {
namespace {

using namespace std::chrono_literals;
using ntb::Partition;

class AdapterOnModel : public testing::Test {
  protected:
    void SetUp() override {
        loop_ = io::EventLoop::create().value();
        switch_ = Switch::create(*loop_, {.ports = 4}).value();
        sockets_ = PortSockets::create(*switch_, dir_.path()).value();
        thread_ = std::thread([this] { loop_->run(); });
    }
    void TearDown() override {
        loop_->stop();
        thread_.join();
        sockets_.reset();
    }
    std::unique_ptr<ntb::Adapter> adapter(unsigned port, ntb::AdapterEvents events = {}) {
        return ntb::Adapter::create(vfio_user::connect(PortSockets::path(dir_.path(), port)).value(),
                                    std::move(events))
            .value();
    }
    // Runs WORK where the switch runs.
    void on_switch(const std::function<void()>& work) {
        std::mutex mutex;
        std::condition_variable changed;
        bool done = false;
        loop_->post([&] {
            work();
            const std::lock_guard lock(mutex);
            done = true;
            changed.notify_one();
        });
        std::unique_lock lock(mutex);
        ASSERT_TRUE(changed.wait_for(lock, 5s, [&] { return done; }));
    }
    uint64_t window_messages(unsigned port) {
        uint64_t messages = 0;
        on_switch([&] {
            const auto& counters = switch_->port(port).counters();
            messages = counters.window_reads + counters.window_writes;
        });
        return messages;
    }

    TemporaryFolder dir_;
    std::unique_ptr<io::EventLoop> loop_;
    std::unique_ptr<Switch> switch_;
    std::unique_ptr<PortSockets> sockets_;
    std::thread thread_;
};

MemoryRef memory(uint64_t size_bytes) {
    return {share(create_memory("exported", size_bytes).value()), 0, size_bytes};
}

TEST_F(AdapterOnModel, WindowIsTheExportedMemory) {
    const auto lender = adapter(0);
    const auto borrower = adapter(2);
    const auto ref = memory(0x10000);
    const auto exported = lender->export_memory(ref, Access::read_write).value();
    const auto window = borrower->open_window({lender->partition(), exported.address(), 0x10000}).value();
    auto here = Mapping::create(ref).value();
    auto there = window.map().value();
    there.data()[0xffff] = std::byte{0x5a};
    EXPECT_EQ(here.data()[0xffff], std::byte{0x5a});
    EXPECT_EQ(window_messages(2), 0u);
}

TEST_F(AdapterOnModel, GuestMemoryAndHundredsOfSmallWindowsAtOnce) {
    const auto lender = adapter(0);
    const auto borrower = adapter(1);
    const auto guest_ram = memory(uint64_t{1} << 30);
    const auto ram = borrower->export_memory(guest_ram, Access::read_write).value();
    const auto to_ram = lender->open_window({borrower->partition(), ram.address(), ram.size_bytes()}).value();
    EXPECT_EQ(to_ram.map().value().size_bytes(), uint64_t{1} << 30);

    std::vector<MemoryRef> bars;
    std::vector<ntb::Export> exports;
    std::vector<ntb::Target> targets;
    for (unsigned i = 0; i < 400; ++i) {
        bars.push_back(memory(0x4000));
        exports.push_back(lender->export_memory(bars.back(), Access::read_write).value());
        targets.push_back({lender->partition(), exports.back().address(), 0x4000});
    }
    const auto windows = borrower->open_windows(targets).value();
    for (unsigned i = 0; i < 400; ++i) {
        windows[i].map().value().data()[0] = static_cast<std::byte>(i);
        EXPECT_EQ(Mapping::create(bars[i]).value().data()[0], static_cast<std::byte>(i));
    }
    EXPECT_LE(borrower->capacity().windows_free, borrower->capacity().windows - 400);
}

TEST_F(AdapterOnModel, EventsAndMessagesArrive) {
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<std::pair<Partition, uint32_t>> received;
    const auto receiver = adapter(0, {.message =
                                          [&](Partition from, uint32_t message) {
                                              const std::lock_guard lock(mutex);
                                              received.emplace_back(from, message);
                                              changed.notify_one();
                                          },
                                      .link_changed = {},
                                      .gone = {}});
    const auto sender = adapter(3);
    const auto event = create_eventfd().value();
    const int fds[] = {event.get()};
    const auto exported = receiver->export_events(fds).value();
    const auto window = sender->open_window({receiver->partition(), exported.address(), 4}).value();
    signal(window.event(0).value());
    EXPECT_EQ(drain(event), 1u);

    for (uint32_t i = 0; i < 20; ++i)
        for (unsigned tries = 0; !sender->send_message(receiver->partition(), i); ++tries) {
            ASSERT_LT(tries, 1000u);
            std::this_thread::sleep_for(1ms);
        }
    std::unique_lock lock(mutex);
    EXPECT_TRUE(changed.wait_for(lock, 5s, [&] { return received.size() == 20; }));
    for (const auto& [from, message] : received)
        EXPECT_EQ(from, sender->partition());
}

TEST_F(AdapterOnModel, LinkChangesAreTold) {
    std::atomic<unsigned> changes{0};
    const auto watcher = adapter(0, {.message = {}, .link_changed = [&] { ++changes; }, .gone = {}});
    const auto other = adapter(1);
    EXPECT_TRUE(watcher->link_up(other->partition()).value());
    const unsigned before = changes;
    on_switch([&] { switch_->port(1).enable_link(false); });
    for (unsigned i = 0; i < 5000 && changes == before; ++i)
        std::this_thread::sleep_for(1ms);
    EXPECT_GT(changes, before);
    EXPECT_FALSE(watcher->link_up(other->partition()).value());
    EXPECT_EQ(watcher->open_window({other->partition(), {uint64_t{1} << 32}, 0x1000}).error().code(),
              Errc::unavailable);
}

TEST_F(AdapterOnModel, AnAdapterThatIsTakenOverIsClean) {
    const auto lender = adapter(0);
    const auto exported = lender->export_memory(memory(0x4000), Access::read_write).value();
    {
        const auto first = adapter(1);
        const auto window = first->open_window({lender->partition(), exported.address(), 0x4000}).value();
    }
    unsigned windows = 1;
    std::unique_ptr<ntb::Adapter> second;
    for (unsigned i = 0; i < 1000 && !second; ++i) {
        auto function = vfio_user::connect(PortSockets::path(dir_.path(), 1));
        if (function) second = ntb::Adapter::create(std::move(*function), {}).value();
        std::this_thread::sleep_for(1ms);
    }
    ASSERT_TRUE(second);
    on_switch([&] { windows = switch_->port(1).control().windows().count(); });
    EXPECT_EQ(windows, 0u);
}

TEST_F(AdapterOnModel, AnUnpluggedPortIsGone) {
    std::atomic<bool> gone{false};
    const auto unplugged = adapter(0, {.message = {}, .link_changed = {}, .gone = [&] { gone = true; }});
    on_switch([&] { sockets_->unplug(0); });
    for (unsigned i = 0; i < 5000 && !gone; ++i)
        std::this_thread::sleep_for(1ms);
    EXPECT_TRUE(gone);
    EXPECT_FALSE(unplugged->send_message(Partition{1}, 1));
}

} // namespace
} // namespace lanepool::fabric
