// SPDX-License-Identifier: Apache-2.0
#include "pool/records.h"
#include "pool/site.h"

#include <gtest/gtest.h>

namespace lanepool::pool {
namespace {

Device drive() {
    Device device;
    device.fdid = {0x80001};
    device.host = "store";
    device.name = "nvme0";
    device.identity.kind = "nvme";
    device.identity.model = "Example Fast 4T";
    device.identity.vendor_id = 0x1b36;
    device.identity.device_id = 0x0010;
    device.identity.capacity_bytes = 4'000'000'000'000;
    return device;
}

TEST(Selector, EmptySelectsNothing) {
    EXPECT_FALSE(selects(Selector(), drive()));
    EXPECT_FALSE(selects(Selector(), Device()));
    EXPECT_EQ(describe(Selector()), "no device");
}

TEST(Selector, SelectsByFdidOrName) {
    for (const char* id : {"80001", "0x80001", "0X80001", "store/nvme0"}) {
        Selector selector;
        selector.device = id;
        EXPECT_TRUE(selects(selector, drive())) << id;
    }
    for (const char* id :
         {"80002", "8000", "80001x", "0x", "store/nvme1", "store/", "/nvme0", "other/nvme0"}) {
        Selector selector;
        selector.device = id;
        EXPECT_FALSE(selects(selector, drive())) << id;
    }
}

TEST(Selector, WantsEverythingThatIsGiven) {
    Selector selector;
    selector.kind = "nvme";
    selector.host = "store";
    selector.model = "fast";
    selector.vendor_id = 0x1b36;
    selector.device_id = 0x0010;
    selector.least_capacity_bytes = 4'000'000'000'000;
    EXPECT_TRUE(selects(selector, drive()));
    const auto fails_with = [&](auto&& change) {
        Selector other = selector;
        change(other);
        EXPECT_FALSE(selects(other, drive())) << describe(other);
    };
    fails_with([](Selector& s) { s.kind = "gpu"; });
    fails_with([](Selector& s) { s.host = "Store"; });
    fails_with([](Selector& s) { s.model = "slow"; });
    fails_with([](Selector& s) { s.vendor_id = 1; });
    fails_with([](Selector& s) { s.device_id = 1; });
    fails_with([](Selector& s) { ++s.least_capacity_bytes; });
}

TEST(Selector, IsDescribedInWords) {
    Selector selector;
    selector.kind = "nvme";
    selector.host = "store";
    selector.least_capacity_bytes = 1'000'000'000'000;
    EXPECT_EQ(describe(selector), "nvme of at least 1.0 TB at host store");
    Selector one;
    one.device = "80001";
    EXPECT_EQ(describe(one), "device 80001");
    Selector small;
    small.vendor_id = 0x1b36;
    small.least_capacity_bytes = 999;
    EXPECT_EQ(describe(small), "device of vendor 1b36 of at least 999 bytes");
}

// Monday 2026-01-05, 00:00:00 UTC.
constexpr int64_t monday_us = 1'767'571'200LL * 1'000'000;
constexpr int64_t hour_us = 3600LL * 1'000'000;

TEST(Calendar, FindsTheIntervalThatItIsIn) {
    // Every weekday 18:00-06:00.
    const Calendar nights{0b0011111, 18 * 3600, 12 * 3600, 0};
    const Interval first{monday_us + 18 * hour_us, monday_us + 30 * hour_us};
    EXPECT_EQ(next_interval(nights, monday_us + 18 * hour_us), first);
    EXPECT_EQ(next_interval(nights, monday_us + 29 * hour_us), first);
    EXPECT_EQ(next_interval(nights, first.end_us - 1), first);
}

TEST(Calendar, FindsTheNextInterval) {
    const Calendar nights{0b0011111, 18 * 3600, 12 * 3600, 0};
    // Monday morning: the last one was Friday's, until Saturday 06:00.
    EXPECT_EQ(next_interval(nights, monday_us).begin_us, monday_us + 18 * hour_us);
    // Its end belongs to what follows.
    EXPECT_EQ(next_interval(nights, monday_us + 30 * hour_us).begin_us, monday_us + 42 * hour_us);
    // From Saturday 06:00 on it is Monday's again.
    const int64_t saturday_us = monday_us + 5 * 24 * hour_us;
    EXPECT_EQ(next_interval(nights, saturday_us + 6 * hour_us).begin_us, monday_us + (7 * 24 + 18) * hour_us);
    EXPECT_EQ(next_interval(nights, saturday_us + 5 * hour_us).begin_us, saturday_us - 6 * hour_us);
}

TEST(Calendar, KeepsItsOffset) {
    // Sundays at 23:00 for 2 hours, at UTC+2: 21:00 UTC.
    const Calendar sundays{0b1000000, 23 * 3600, 2 * 3600, 2 * 3600};
    const int64_t sunday_us = monday_us - 24 * hour_us;
    EXPECT_EQ(next_interval(sundays, sunday_us),
              (Interval{sunday_us + 21 * hour_us, sunday_us + 23 * hour_us}));
    EXPECT_EQ(next_interval(sundays, monday_us - hour_us).begin_us,
              sunday_us + 7 * 24 * hour_us + 21 * hour_us);
}

TEST(Calendar, HasWholeWeeksAndTimesBefore1970) {
    const Calendar week{0b0000001, 0, 7 * 86400, 0};
    EXPECT_EQ(next_interval(week, monday_us + 6 * 24 * hour_us),
              (Interval{monday_us, monday_us + 7 * 24 * hour_us}));
    const Interval early = next_interval(week, -1);
    EXPECT_LE(early.begin_us, -1);
    EXPECT_GT(early.end_us, -1);
    EXPECT_EQ(next_interval(Calendar{0, 0, 3600, 0}, monday_us), Interval());
}

} // namespace
} // namespace lanepool::pool
