// SPDX-License-Identifier: Apache-2.0
//
// What users complain about in today's NTB software: no link after a peer has rebooted under load, and
// windows that do not fit without anybody saying why.
#include "integration/ntb_host.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cstring>

namespace lanepool::ntb {
namespace {

using integration::host;
using integration::Host;
using integration::VirtualSwitch;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uint64_t mib = uint64_t{1} << 20;

// Asks a peer all the time, whether it answers or not, until it is told to stop.
class Load {
  public:
    Load(Host& from, unsigned peer) {
        for (int i = 0; i < 2; ++i)
            threads_.emplace_back([this, &from, peer] {
                const std::vector<std::byte> body(3000, std::byte{1});
                while (!stop_) {
                    const auto answer = from.ask(peer, body, std::chrono::seconds(1));
                    ++(answer ? answered : failed);
                    // A wrong answer is worse than none.
                    if (answer && *answer != body) ++wrong;
                }
            });
    }
    ~Load() {
        stop_ = true;
        for (auto& thread : threads_)
            thread.join();
    }
    std::atomic<int> answered{0};
    std::atomic<int> failed{0};
    std::atomic<int> wrong{0};

  private:
    std::atomic<bool> stop_{false};
    std::vector<std::thread> threads_;
};

TEST(FieldComplaint, No13ThereIsALinkAfterAPeerHasRebootedUnderLoad) {
    VirtualSwitch fabric(3);
    Host zero(fabric, 0), two(fabric, 2);
    auto one = std::make_unique<Host>(fabric, 1);
    ASSERT_TRUE(eventually([&] { return zero.alive(1) && one->alive(0) && zero.alive(2) && two.alive(0); }));
    const unsigned windows = zero.adapter->capacity().windows_free;
    Load load(zero, 1), neighbour(zero, 2);
    for (int round = 0; round < 4; ++round) {
        const auto memory = share(create_memory("test", mib).value());
        auto exported = one->adapter->export_memory({memory, 0, mib}, Access::read_write).value();
        auto window = zero.adapter->open_window({host(1), exported.address(), mib}).value();
        auto mapped = window.map().value();
        const int before = load.answered;
        ASSERT_TRUE(eventually([&] { return load.answered > before; })) << "round " << round;
        // Its link goes down, or it is gone as a whole, while messages and writes are under way.
        const int failed = load.failed;
        if (round % 2 == 0)
            fabric.enable_link(1, false);
        else
            fabric.unplug(1);
        std::memset(mapped.data(), 7, mib);
        EXPECT_TRUE(eventually([&] { return !zero.alive(1) && load.failed > failed; }));
        const int undisturbed = neighbour.answered;
        if (round % 2 == 0) {
            fabric.enable_link(1, true);
        } else {
            exported = {};
            one.reset();
            fabric.plug(1);
            one = std::make_unique<Host>(fabric, 1);
        }
        EXPECT_TRUE(eventually([&] { return zero.alive(1) && one->alive(0); })) << "round " << round;
        const int after = load.answered;
        EXPECT_TRUE(eventually([&] { return load.answered > after + 10; })) << "round " << round;
        EXPECT_TRUE(eventually([&] { return neighbour.answered > undisturbed; }));
    }
    EXPECT_EQ(load.wrong + neighbour.wrong, 0);
    EXPECT_TRUE(eventually([&] { return zero.adapter->capacity().windows_free >= windows; }))
        << zero.adapter->capacity().windows_free << " of " << windows;
}

// Each card and each BIOS sizes BARs and tables in its own way: what cannot be had is said in numbers, before
// anything is programmed, and what is open stays open.
TEST(FieldComplaint, No13AWindowThatDoesNotFitIsRefusedInNumbers) {
    for (const uint64_t bar_bytes : {16 * mib, 64 * mib, 512 * mib}) {
        fabric::SwitchOptions options;
        options.ports = 2;
        options.bar4_bytes = bar_bytes;
        VirtualSwitch fabric(options);
        auto one = fabric.adapter(0);
        auto other = fabric.adapter(1);
        const auto memory = share(create_memory("test", 4096).value());
        auto exported = other->export_memory({memory, 0, 4096}, Access::read_write).value();
        auto kept = one->open_window({host(1), exported.address(), 4096}).value();
        const auto before = one->capacity();
        const uint64_t largest = before.largest_window_bytes;
        EXPECT_LE(largest, std::max(bar_bytes, options.bar2_bytes));
        const auto too_large = one->open_window({host(1), BusAddress{0}, largest + 1});
        ASSERT_FALSE(too_large);
        EXPECT_EQ(too_large.error().code(), Errc::no_space);
        EXPECT_THAT(
            too_large.error().message(),
            AllOf(HasSubstr(fmt::format("no window of {} bytes", largest + 1)),
                  HasSubstr(fmt::format("{} of {} windows are free", before.windows_free, before.windows)),
                  HasSubstr(fmt::format("can have is {} bytes", largest)),
                  HasSubstr("close windows, or give the adapter larger BARs")));
        const auto too_many =
            one->open_windows(std::vector<Target>(before.windows + 1, {host(1), {0}, 4096}));
        ASSERT_FALSE(too_many);
        EXPECT_EQ(too_many.error().code(), Errc::no_space);
        EXPECT_THAT(too_many.error().message(),
                    HasSubstr(fmt::format("{} windows at once", before.windows + 1)));
        EXPECT_EQ(one->capacity().windows_free, before.windows_free);
        // What is open shows what it did, and the largest that was promised can be had.
        std::memset(Mapping::create({memory, 0, 4096}).value().data(), 5, 4096);
        EXPECT_EQ(kept.map().value().data()[100], std::byte{5});
        EXPECT_TRUE(one->open_window({host(1), BusAddress{0}, largest}));
    }
}

// A table of which every entry is taken.
TEST(FieldComplaint, No13AFullTableIsRefusedInNumbers) {
    fabric::SwitchOptions options;
    options.ports = 2;
    VirtualSwitch fabric(options);
    auto one = fabric.adapter(0);
    auto other = fabric.adapter(1);
    std::vector<Window> windows;
    Result<Window> next;
    while ((next = one->open_window({host(1), BusAddress{windows.size() * mib}, 4096})))
        windows.push_back(std::move(*next));
    EXPECT_EQ(next.error().code(), Errc::no_space);
    EXPECT_EQ(windows.size(), one->capacity().windows);
    EXPECT_THAT(next.error().message(), HasSubstr(fmt::format("0 of {} windows are free", windows.size())));
    // One that is given back is enough for the next.
    EXPECT_TRUE(windows.back().close());
    windows.pop_back();
    EXPECT_TRUE(one->open_window({host(1), BusAddress{0}, 4096}));
}

} // namespace
} // namespace lanepool::ntb
