// SPDX-License-Identifier: Apache-2.0
#include "pool/scheduler_bench.h"

namespace lanepool::pool::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int64_t hour_us = 3'600'000'000;

// Three drives at "store"; hosts "a" and "b".
class ReservationsTest : public ::testing::Test, protected Records {
  protected:
    ReservationsTest() {
        add_host("store");
        add_host("a");
        add_host("b");
        for (int i = 0; i < 3; ++i)
            drives.push_back(add_device("store"));
        Selector nvme;
        nvme.kind = "nvme";
        site.classes = {{"drives", {nvme}}};
    }
    // From BEGIN_H to END_H hours from now.
    void reserve(const std::string& name, const std::string& tenant, uint32_t count, int64_t begin_h,
                 int64_t end_h, const std::string& device_class = "drives") {
        Reservation reservation;
        reservation.name = name;
        reservation.tenant = tenant;
        reservation.device_class = device_class;
        reservation.count = count;
        reservation.once = Interval{now.unix_us + begin_h * hour_us, now.unix_us + end_h * hour_us};
        site.reservations.push_back(reservation);
        scheduler.set_site(site);
    }
    Loan of(const std::string& tenant, int64_t hours = 0) {
        Loan loan = wish("a");
        loan.tenant = tenant;
        loan.duration_s = hours * 3600;
        return loan;
    }
    std::vector<Fdid> drives;
};

TEST_F(ReservationsTest, OthersGetOnlyWhatIsLeft) {
    reserve("night", "lab", 2, -1, 5);
    queue(of("others"));
    const LoanId second = queue(of("others"));
    EXPECT_EQ(serve().starts.size(), 1u);
    EXPECT_THAT(scheduler.explain(second, now).why.front(),
                HasSubstr("needed for reservation 'night': 2 of class 'drives' for tenant 'lab' from "
                          "2023-11-14T21:13:20Z until 2023-11-15T03:13:20Z"));
}

TEST_F(ReservationsTest, ItsTenantGetsThemAndTheLoansSayWhose) {
    reserve("night", "lab", 2, -1, 5);
    for (int i = 0; i < 3; ++i)
        queue(of("lab"));
    const Decision decision = serve();
    ASSERT_EQ(decision.starts.size(), 3u);
    size_t under = 0;
    for (const auto& start : decision.starts)
        under += start.reservation == "night" ? 1 : 0;
    EXPECT_EQ(under, 2u);
}

TEST_F(ReservationsTest, WhatItsTenantHasAlreadyIsNotKeptTwice) {
    reserve("night", "lab", 2, -1, 5);
    queue(of("lab"));
    queue(of("lab"));
    serve();
    queue(of("others"));
    EXPECT_EQ(decide().starts.size(), 1u);
}

TEST_F(ReservationsTest, BeforeItBeginsALoanWithoutEndMayNotTakeWhatItNeeds) {
    reserve("night", "lab", 3, 2, 5);
    queue(of("others"));
    EXPECT_THAT(decide().starts, IsEmpty());
}

TEST_F(ReservationsTest, BeforeItBeginsALoanThatIsBackByThenMay) {
    reserve("night", "lab", 3, 2, 5);
    queue(of("others", 2));
    EXPECT_EQ(decide().starts.size(), 1u);
    queue(of("others", 3));
    EXPECT_EQ(serve().starts.size(), 1u);
}

TEST_F(ReservationsTest, WhatIsBackByThenCounts) {
    reserve("night", "lab", 2, 2, 5);
    lend(drives[0], of("others", 1));
    queue(of("others"));
    EXPECT_EQ(serve().starts.size(), 1u);
    queue(of("others"));
    EXPECT_THAT(decide().starts, IsEmpty());
}

TEST_F(ReservationsTest, WhatIsBackTooLateDoesNotCount) {
    reserve("night", "lab", 2, 2, 5);
    lend(drives[0], of("others", 3));
    queue(of("others"));
    EXPECT_THAT(decide().starts, IsEmpty());
}

TEST_F(ReservationsTest, WhatIsNotHealthyDoesNotCount) {
    reserve("night", "lab", 2, 2, 5);
    change_device(drives[0], [](Device& device) { device.state = DeviceState::quarantined; });
    queue(of("others"));
    EXPECT_THAT(decide().starts, IsEmpty());
    change_device(drives[0], [](Device& device) { device.state = DeviceState::available; });
    EXPECT_EQ(decide().starts.size(), 1u);
}

TEST_F(ReservationsTest, WhenItIsOverAllIsFree) {
    reserve("night", "lab", 3, -1, 1);
    queue(of("others"));
    EXPECT_THAT(decide().starts, IsEmpty());
    EXPECT_EQ(scheduler.next_change_us(now), now.unix_us + hour_us);
    pass_s(3600);
    EXPECT_EQ(decide().starts.size(), 1u);
    EXPECT_EQ(scheduler.next_change_us(now), std::nullopt);
}

TEST_F(ReservationsTest, ItsBeginIsAChange) {
    reserve("night", "lab", 1, 2, 3);
    EXPECT_EQ(scheduler.next_change_us(now), now.unix_us + 2 * hour_us);
    pass_s(2 * 3600);
    EXPECT_EQ(scheduler.next_change_us(now), now.unix_us + hour_us);
}

TEST_F(ReservationsTest, EveryWeekIsLikeThis) {
    Reservation reservation;
    reservation.name = "night";
    reservation.tenant = "lab";
    reservation.device_class = "drives";
    reservation.count = 3;
    reservation.weekly = Calendar{0x1f, 18 * 3600, 12 * 3600, 0}; // weekdays 18:00-06:00
    site.reservations = {reservation};
    scheduler.set_site(site);
    queue(of("others", 1)); // it is a Tuesday, 22:13:20
    EXPECT_THAT(decide().starts, IsEmpty());
    pass_s(8 * 3600); // Wednesday 06:13
    EXPECT_EQ(decide().starts.size(), 1u);
    pass_s(11 * 3600); // Wednesday 17:13: it would not be back by 18:00
    EXPECT_THAT(decide().starts, IsEmpty());
}

TEST_F(ReservationsTest, AClockThatIsSetBackIsFollowed) {
    reserve("night", "lab", 3, -1, 1);
    pass_s(7200);
    queue(of("others"));
    EXPECT_EQ(decide().starts.size(), 1u);
    pass_s(-7200);
    EXPECT_THAT(decide().starts, IsEmpty());
}

TEST_F(ReservationsTest, ThoseThatOverlapAreAddedUp) {
    reserve("one", "lab", 1, 2, 5);
    reserve("two", "works", 1, 3, 6);
    queue(of("others"));
    EXPECT_EQ(serve().starts.size(), 1u);
    queue(of("others"));
    EXPECT_THAT(decide().starts, IsEmpty());
}

TEST_F(ReservationsTest, ThoseThatNeverMeetAreNotAddedUp) {
    reserve("one", "lab", 2, 2, 3);
    reserve("two", "works", 2, 3, 4);
    queue(of("others"));
    EXPECT_EQ(decide().starts.size(), 1u);
}

TEST_F(ReservationsTest, ClassesThatOverlapAreAddedUp) {
    Selector model;
    model.model = "nvme";
    site.classes.push_back({"same", {model}});
    reserve("one", "lab", 2, 2, 5);
    reserve("two", "works", 1, 2, 5, "same");
    queue(of("others"));
    EXPECT_THAT(decide().starts, IsEmpty());
}

TEST_F(ReservationsTest, ClassesThatDoNotOverlapAreNot) {
    Selector gpu;
    gpu.kind = "gpu";
    site.classes.push_back({"gpus", {gpu}});
    add_device("store", "gpu");
    reserve("one", "lab", 2, 2, 5);
    reserve("two", "works", 1, 2, 5, "gpus");
    queue(of("others"));
    EXPECT_EQ(decide().starts.size(), 1u);
}

TEST_F(ReservationsTest, OfTwoThatCannotBothBeHadTheFirstInTheSiteCounts) {
    reserve("one", "lab", 3, -1, 5);
    reserve("two", "works", 3, -1, 5);
    queue(of("works"));
    EXPECT_THAT(decide().starts, IsEmpty());
    const LoanId first = queue(of("lab"));
    EXPECT_EQ(given(serve()).count(first), 1u);
    reserve("two", "works", 3, -1, 5);
}

TEST_F(ReservationsTest, AGroupGetsNoMoreThanIsLeft) {
    reserve("night", "lab", 2, -1, 5);
    const LoanId group = queue_group({of("others"), of("others")});
    EXPECT_THAT(decide().starts, IsEmpty());
    EXPECT_THAT(scheduler.explain(group, now).why.at(1), HasSubstr("reservation 'night'"));
}

TEST_F(ReservationsTest, AGroupFindsWhatIsNotReserved) {
    // Enough drives, but of the class only one may go; the other one has to be of another class.
    Selector small;
    small.device = fmt::format("{}", drives[0]);
    Selector second = small;
    second.device = fmt::format("{}", drives[1]);
    site.classes = {{"drives", {small, second}}};
    reserve("night", "lab", 1, -1, 5);
    queue_group({of("others"), of("others")});
    const auto served = given(decide());
    ASSERT_EQ(served.size(), 2u);
    size_t elsewhere = 0;
    for (const auto& [loan, fdid] : served)
        elsewhere += fdid == drives[2] ? 1 : 0;
    EXPECT_EQ(elsewhere, 1u);
}

TEST_F(ReservationsTest, ItsTenantNeedNotWaitForAGroupAhead) {
    reserve("night", "lab", 1, -1, 5);
    change_device(drives[0], [](Device& device) { device.state = DeviceState::quarantined; });
    Loan first = of("others");
    Loan second = of("others");
    Loan third = of("others");
    first.priority = second.priority = third.priority = 9;
    queue_group({first, second, third});
    const LoanId lab = queue(of("lab"));
    EXPECT_EQ(given(decide()).count(lab), 1u);
}

TEST_F(ReservationsTest, WhatIsClaimedNowMayBeHeldBeyondTheIntervalAndIntoTheNextOne) {
    reserve("day", "lab", 1, -1, 1);
    reserve("night", "physics", 2, 2, 5);
    const LoanId other = queue(of("others"));
    EXPECT_THAT(decide().starts,
                IsEmpty()); // it would leave one for 'night' if 'lab' never gave its own back
    queue(of("lab"));
    EXPECT_EQ(serve().starts.size(), 1u);
    EXPECT_EQ(given(decide()).count(other), 0u);
}

TEST_F(ReservationsTest, OneThatRunsAndHasAllItsDevicesClaimsNoMoreOfTheNextOne) {
    reserve("day", "lab", 1, -1, 1);
    reserve("night", "physics", 1, 2, 5);
    queue(of("lab"));
    ASSERT_EQ(serve().starts.size(), 1u);
    queue(of("others"));
    EXPECT_EQ(serve().starts.size(), 1u);
}

TEST_F(ReservationsTest, ALoanUnderAReservationIsNotPreempted) {
    reserve("night", "lab", 3, -1, 5);
    for (int i = 0; i < 3; ++i) {
        Loan loan = of("lab");
        loan.preemptible = true;
        queue(loan);
    }
    ASSERT_EQ(serve().starts.size(), 3u);
    Loan strong = of("others");
    strong.priority = 9;
    strong.preempts = true;
    queue(strong);
    EXPECT_THAT(decide().preemptions, IsEmpty());
}

TEST_F(ReservationsTest, ALoanMayBeKeptAsLongAsNoReservationNeedsTheDevice) {
    reserve("night", "lab", 3, 2, 5);
    const LoanId loan = lend(drives[0], of("others", 1));
    EXPECT_TRUE(scheduler.may_keep(loan, now.unix_us + 2 * hour_us, now));
    const auto longer = scheduler.may_keep(loan, now.unix_us + 3 * hour_us, now);
    ASSERT_FALSE(longer);
    EXPECT_THAT(longer.error().message(), HasSubstr("reservation 'night'"));
    EXPECT_FALSE(scheduler.may_keep(loan, 0, now));
}

} // namespace
} // namespace lanepool::pool::testing
