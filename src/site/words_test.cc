// SPDX-License-Identifier: Apache-2.0
#include "site/words.h"

#include <array>
#include <gtest/gtest.h>

namespace lanepool::site {
namespace {

TEST(Words, DurationsHaveUnits) {
    EXPECT_EQ(parse_duration_s("90s"), 90);
    EXPECT_EQ(parse_duration_s("30m"), 1800);
    EXPECT_EQ(parse_duration_s("8h"), 28800);
    EXPECT_EQ(parse_duration_s("2d"), 172800);
    EXPECT_EQ(parse_duration_s("1w"), 604800);
}

TEST(Words, DurationsMayHaveSeveralUnitsFromLargeToSmall) {
    EXPECT_EQ(parse_duration_s("1d2h3m4s"), 86400 + 7200 + 180 + 4);
    EXPECT_FALSE(parse_duration_s("30m1h"));
    EXPECT_FALSE(parse_duration_s("1h1h"));
}

TEST(Words, OtherTextsAreNoDurations) {
    for (const auto* text :
         {"", "8", "h", "-1h", "8 h", "8H", "1.5h", "8hours", "99999999999999999999s", "9999999w"})
        EXPECT_FALSE(parse_duration_s(text)) << text;
}

TEST(Words, DurationsAreWrittenAsTheyAreRead) {
    for (const int64_t seconds : {0, 1, 59, 60, 5400, 86400, 694861})
        EXPECT_EQ(parse_duration_s(duration_text(seconds)), seconds);
}

TEST(Words, CapacitiesAreDecimalOrBinary) {
    EXPECT_EQ(parse_capacity_bytes("1 TB"), 1'000'000'000'000U);
    EXPECT_EQ(parse_capacity_bytes("512 GiB"), uint64_t{512} << 30);
    EXPECT_EQ(parse_capacity_bytes("4096B"), 4096U);
    EXPECT_EQ(parse_capacity_bytes("3 kb"), 3000U);
}

TEST(Words, CapacitiesMayHaveDecimals) {
    EXPECT_EQ(parse_capacity_bytes("1.5TB"), 1'500'000'000'000U);
    EXPECT_EQ(parse_capacity_bytes("0.125 KiB"), 128U);
    EXPECT_FALSE(parse_capacity_bytes("1.2345 TB"));
}

TEST(Words, OtherTextsAreNoCapacities) {
    for (const auto* text : {"", "1", "TB", "1  TB", "-1 TB", "1 T", "1. TB", "99999999 PiB", "1 TB "})
        EXPECT_FALSE(parse_capacity_bytes(text)) << text;
}

TEST(Words, OffsetsHaveASignAndFourDigits) {
    EXPECT_EQ(parse_utc_offset_s("+01:00"), 3600);
    EXPECT_EQ(parse_utc_offset_s("-03:30"), -12600);
    EXPECT_EQ(parse_utc_offset_s("+14:00"), 14 * 3600);
    for (const auto* text : {"", "Z", "01:00", "+1:00", "+14:01", "-12:01", "+01:60", "+01:000"})
        EXPECT_FALSE(parse_utc_offset_s(text)) << text;
}

TEST(Words, TimesOfTheWeekEndOnTheNextDayWhereTheEndIsEarlier) {
    EXPECT_EQ(parse_weekly_times("weekdays 18:00-06:00"), (WeeklyTimes{0x1f, 18 * 3600, 12 * 3600}));
}

TEST(Words, TimesOfTheWeekMayNameDays) {
    EXPECT_EQ(parse_weekly_times("mon,wed 09:00-12:30"), (WeeklyTimes{0x05, 9 * 3600, 12600}));
    EXPECT_EQ(parse_weekly_times("tue-thu,sun 09:00-10:00"), (WeeklyTimes{0x4e, 9 * 3600, 3600}));
    EXPECT_EQ(parse_weekly_times("sat-mon 09:00-10:00"), (WeeklyTimes{0x61, 9 * 3600, 3600}));
    EXPECT_EQ(parse_weekly_times("weekends 09:00-10:00"), (WeeklyTimes{0x60, 9 * 3600, 3600}));
}

TEST(Words, TimesOfTheWeekMayBeWholeDays) {
    EXPECT_EQ(parse_weekly_times("daily 00:00-24:00"), (WeeklyTimes{0x7f, 0, 86400}));
}

TEST(Words, OtherTextsAreNoTimesOfTheWeek) {
    for (const auto* text :
         {"", "daily", "daily 9:00-10:00", "monday 09:00-10:00", "mon, wed 09:00-10:00", "daily 24:00-24:00",
          "daily 09:00-09:00", "daily 09:00-25:00", "daily 09:00-24:01", "daily 09:60-10:00",
          "daily 09:00-10:00 ", "mon- 09:00-10:00", ",mon 09:00-10:00"})
        EXPECT_FALSE(parse_weekly_times(text)) << text;
}

TEST(Words, TheNearestIsTheOneWithTheFewestChanges) {
    constexpr std::array<std::string_view, 3> words{"tenant", "tenants", "reservation"};
    EXPECT_EQ(nearest("tenat", words), "tenant");
    EXPECT_EQ(nearest("tennants", words), "tenants");
    EXPECT_EQ(nearest("resrvatoin", words), "reservation");
}

TEST(Words, WhatIsFarFromAllHasNoNearest) {
    constexpr std::array<std::string_view, 2> words{"tenant", "rule"};
    EXPECT_EQ(nearest("colour", words), "");
    EXPECT_EQ(nearest("", words), "");
    EXPECT_EQ(nearest(std::string(1000, 'x'), words), "");
}

} // namespace
} // namespace lanepool::site
