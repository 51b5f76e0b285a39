// SPDX-License-Identifier: Apache-2.0
#include "pool/fair_share.h"

#include "pool/distance.h"

#include <cmath>
#include <gtest/gtest.h>

namespace lanepool::pool {
namespace {

constexpr int64_t hour_us = 3'600'000'000;

TEST(FairShareTest, HalfIsForgottenEachDay) {
    EXPECT_EQ(decayed(1000, 0), 1000);
    EXPECT_EQ(decayed(1000, 24 * hour_us), 500);
    EXPECT_EQ(decayed(1000, 72 * hour_us), 125);
    EXPECT_EQ(decayed(1'000'000, 12 * hour_us), 707'106);
    EXPECT_EQ(decayed(INT64_MAX, 24 * hour_us), INT64_MAX / 2);
    EXPECT_EQ(decayed(1000, 100 * 24 * hour_us), 0);
}

TEST(FairShareTest, NothingIsForgottenWhenTheClockGoesBack) { EXPECT_EQ(decayed(1000, -hour_us), 1000); }

TEST(FairShareTest, AShortLoanCountsItsSeconds) {
    EXPECT_NEAR(static_cast<double>(held_s(0, 600'000'000)), 600, 3);
}

TEST(FairShareTest, ALongLoanCountsWhatIsNotForgotten) {
    const double most = 86400 / std::log(2.0);
    EXPECT_NEAR(static_cast<double>(held_s(5 * hour_us, 29 * hour_us)), most / 2, 3);
    EXPECT_NEAR(static_cast<double>(held_s(0, 5000 * hour_us)), most, 3);
}

TEST(FairShareTest, ManyLoansAreTheSumOfEach) {
    RunningLoans loans;
    int64_t expected = 0;
    for (int64_t i = 0; i < 50; ++i) {
        loans.add(i * 7 * hour_us);
        expected += held_s(i * 7 * hour_us, 400 * hour_us);
    }
    EXPECT_NEAR(static_cast<double>(loans.held_s(400 * hour_us)), static_cast<double>(expected), 60);
}

TEST(FairShareTest, WhatIsRemovedLeavesNothing) {
    RunningLoans loans;
    loans.add(3 * hour_us);
    loans.add(5 * hour_us);
    loans.remove(3 * hour_us);
    loans.remove(5 * hour_us);
    EXPECT_TRUE(loans.empty());
    EXPECT_EQ(loans.held_s(9 * hour_us), 0);
}

TEST(FairShareTest, AnEndedLoanIsCharged) {
    const Usage before{"t", 1000, 24 * hour_us};
    const Usage after = charged(before, 47 * hour_us, 48 * hour_us);
    EXPECT_EQ(after.at_us, 48 * hour_us);
    EXPECT_EQ(after.used_s, 500 + held_s(47 * hour_us, 48 * hour_us));
}

TEST(DistanceTest, CountsWhatIsNotShared) {
    EXPECT_EQ(distance({"row 1", "rack 2"}, {"row 1", "rack 2"}), 1u);
    EXPECT_EQ(distance({"row 1", "rack 2"}, {"row 1", "rack 3"}), 2u);
    EXPECT_EQ(distance({"row 1", "rack 2"}, {"row 2", "rack 2"}), 3u);
    EXPECT_EQ(distance({"row 1", "rack 2"}, {}), 3u);
    EXPECT_EQ(distance({}, {"row 1"}), 1u);
}

} // namespace
} // namespace lanepool::pool
