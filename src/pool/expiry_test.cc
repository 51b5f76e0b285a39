// SPDX-License-Identifier: Apache-2.0
//
// Due times: warnings, renewals, leases, pre-emption's grace, and clocks that are wrong.
#include "pool/test_bench.h"

#include <gmock/gmock.h>

#include <algorithm>

namespace lanepool::pool {
namespace {

using ::testing::HasSubstr;
using enum StepKind;

class ExpiryTest : public testing::Bench {
  protected:
    ExpiryTest() { connect_all(); }

    size_t audited(const std::string& action) const {
        return static_cast<size_t>(std::count_if(disk.trail.begin(), disk.trail.end(),
                                                 [&](const auto& entry) { return entry.action == action; }));
    }
    Result<LoanId> renew(int64_t duration_s) {
        auto loan = pool->renew({"80000", duration_s, owner()}, now);
        keep();
        return loan;
    }
    int64_t time_to_due_ms(LoanId id) { return (loan(id).due_steady_us - now.steady_us) / 1000; }
};

TEST_F(ExpiryTest, WarnsOnceBefore) {
    const auto id = lend_to("a", "80000", 1000);
    pass(699'999);
    EXPECT_EQ(audited("due-soon"), 0u);
    EXPECT_FALSE(loan(id).warned);
    pass(1);
    EXPECT_EQ(audited("due-soon"), 1u);
    EXPECT_TRUE(loan(id).warned);
    EXPECT_THAT(disk.trail.back().reason, HasSubstr("`lanepool renew loan:1`"));
    pass(299'999);
    EXPECT_EQ(audited("due-soon"), 1u);
    EXPECT_EQ(loan(id).state, LoanState::active);
    pass(1);
    EXPECT_EQ(loan(id).state, LoanState::quiescing);
}

TEST_F(ExpiryTest, WarnsAtOnceWhereTheLoanIsShorter) {
    lend_to("a", "80000", 60);
    EXPECT_EQ(audited("due-soon"), 1u);
}

TEST_F(ExpiryTest, ARenewalMovesTheEndAndTheWarning) {
    const auto id = lend_to("a", "80000", 1000);
    pass(900'000);
    ASSERT_TRUE(renew(2000));
    EXPECT_FALSE(loan(id).warned);
    EXPECT_EQ(time_to_due_ms(id), 2'000'000);
    EXPECT_EQ(disk.trail.at(disk.trail.size() - 2).action, "renewed");
    pass(1'699'999);
    EXPECT_EQ(audited("due-soon"), 1u);
    pass(1);
    EXPECT_EQ(audited("due-soon"), 2u);
    pass(300'000);
    EXPECT_EQ(loan(id).state, LoanState::quiescing);
}

TEST_F(ExpiryTest, ARenewalCanTakeTheDueTimeAway) {
    const auto id = lend_to("a", "80000", 1000);
    ASSERT_TRUE(renew(0));
    EXPECT_EQ(loan(id).due_us, 0);
    EXPECT_EQ(take(extend).step.lease_ms, 0);
    pass(10'000'000);
    EXPECT_EQ(loan(id).state, LoanState::active);
}

TEST_F(ExpiryTest, ARenewalBeforeItIsActiveCountsFromThen) {
    const auto id = borrow("a", "80000", 10);
    ASSERT_TRUE(renew(1000));
    EXPECT_EQ(loan(*id).due_us, 0);
    done(prepare);
    done(attach);
    EXPECT_EQ(time_to_due_ms(*id), 1'000'000);
}

TEST_F(ExpiryTest, WhatIsOnItsWayBackIsNotRenewed) {
    lend_to("a", "80000", 1000);
    ASSERT_TRUE(pool->give_back({"80000", owner()}, now));
    EXPECT_EQ(renew(1000).error().code(), Errc::failed_precondition);
    EXPECT_EQ(pool->renew({"80001", 10, owner()}, now).error().code(), Errc::failed_precondition);
    EXPECT_EQ(pool->renew({"loan:77", 10, owner()}, now).error().code(), Errc::not_found);
}

TEST_F(ExpiryTest, ARenewalThatMakesNoSenseIsRefused) {
    const auto id = lend_to("a", "80000", 1000);
    EXPECT_EQ(renew(-1).error().code(), Errc::out_of_range);
    EXPECT_EQ(renew(INT64_MAX).error().code(), Errc::out_of_range);
    EXPECT_EQ(time_to_due_ms(id), 1'000'000);
    EXPECT_EQ(disk.trail.back().action, "renew-refused");
}

TEST_F(ExpiryTest, TheLenderIsToldHowLongItMayGoOnAlone) {
    ASSERT_TRUE(borrow("a", "80000", 1000));
    const Order order = take(prepare);
    const int64_t until_active_ms = options.prepare_ms + options.attach_ms + 2 * options.margin_ms;
    EXPECT_EQ(order.step.lease_ms, until_active_ms + 1'000'000 + options.lease_grace_ms);
    answer(order);
    EXPECT_EQ(take(attach).step.lease_ms, 0);
    ASSERT_TRUE(borrow("b", "80001", 0));
    EXPECT_EQ(take(prepare).step.lease_ms, 0);
}

TEST_F(ExpiryTest, ARenewalDoesNotReachIntoAReservation) {
    Site reserved;
    reserved.tenants = {{"red", 1, 0}, {"blue", 1, 0}};
    reserved.users = {{"eve", "blue", Role::user}};
    Selector drives;
    drives.kind = "nvme";
    reserved.classes = {{"drives", {drives}}};
    reserved.rules.resize(1);
    reserved.rules[0].name = "all";
    Reservation reservation;
    reservation.name = "soon";
    reservation.tenant = "red";
    reservation.device_class = "drives";
    reservation.count = static_cast<uint32_t>(pool->ledger().devices.size());
    reservation.once = Interval{now.unix_us + 3'600'000'000, now.unix_us + 7'200'000'000};
    reserved.reservations = {reservation};
    ASSERT_TRUE(pool->apply_site(reserved, "text", owner(), now));
    keep();
    auto wish = request("a", "80000", 600);
    wish.caller = {"eve"};
    ASSERT_TRUE(pool->borrow(wish, now));
    EXPECT_TRUE(pool->renew({"80000", 1200, {"eve"}}, now));
    const auto into = pool->renew({"80000", 7200, {"eve"}}, now);
    ASSERT_FALSE(into);
    EXPECT_THAT(into.error().message(), HasSubstr("soon"));
}

TEST_F(ExpiryTest, TheLenderHearsOfARenewal) {
    lend_to("a", "80000", 1000);
    ASSERT_TRUE(renew(500));
    const Order order = take(extend);
    EXPECT_EQ(order.step.host, "store");
    EXPECT_EQ(order.step.lease_ms, 500'000 + options.lease_grace_ms);
    answer(order);
    EXPECT_EQ(pool->ledger().steps.size(), 0u);
}

TEST_F(ExpiryTest, ALenderThatMissedARenewalIsToldAgainWithWhatIsLeft) {
    const auto id = lend_to("a", "80000", 1000);
    ASSERT_TRUE(renew(500));
    take(extend);
    pass(options.cut_ms + options.margin_ms);
    EXPECT_EQ(take(extend).step.lease_ms,
              500'000 - (options.cut_ms + options.margin_ms) + options.lease_grace_ms);
    disconnect("store");
    pass(5'000);
    ASSERT_TRUE(say(lender_now(id, loan(id).epoch)));
    answer(take(extend));
    EXPECT_EQ(pool->ledger().steps.size(), 0u);
    EXPECT_EQ(loan(id).state, LoanState::active);
}

TEST_F(ExpiryTest, ALenderThatNeverAnswersARenewalIsNotAskedForEver) {
    const auto id = lend_to("a", "80000", 100'000);
    ASSERT_TRUE(renew(50'000));
    for (uint32_t i = 0; i < options.sendings; ++i) {
        take(extend);
        pass(options.cut_ms + options.margin_ms);
    }
    EXPECT_TRUE(sent.empty());
    EXPECT_EQ(pool->ledger().steps.size(), 0u);
    EXPECT_EQ(loan(id).state, LoanState::active);
}

TEST_F(ExpiryTest, ASecondRenewalReplacesTheStepOfTheFirst) {
    lend_to("a", "80000", 1000);
    ASSERT_TRUE(renew(500));
    const Order first = take(extend);
    ASSERT_TRUE(renew(600));
    EXPECT_EQ(pool->ledger().steps.size(), 1u);
    answer(first); // late
    EXPECT_EQ(pool->ledger().steps.size(), 1u);
    done(extend);
    EXPECT_EQ(pool->ledger().steps.size(), 0u);
}

TEST_F(ExpiryTest, AnExtensionDoesNotStandInTheWayOfTheReturn) {
    const auto id = lend_to("a", "80000", 1000);
    ASSERT_TRUE(renew(500));
    ASSERT_TRUE(pool->give_back({"80000", owner()}, now));
    keep();
    done(detach);
    recover();
    EXPECT_EQ(loan(id).state, LoanState::returned);
    EXPECT_EQ(pool->ledger().steps.size(), 0u);
}

TEST_F(ExpiryTest, AMissedDueTimeMayCutAtOnce) {
    site.failures.resize(1);
    site.failures[0].on_missed_due = OnMissedDue::reclaim;
    restart();
    connect_all();
    const auto id = lend_to("a", "80000", 10);
    pass(10'000);
    EXPECT_EQ(loan(id).state, LoanState::detaching);
    recover();
    EXPECT_EQ(loan(id).state, LoanState::returned);
    EXPECT_EQ(loan(id).reason, "its due time has passed");
}

TEST_F(ExpiryTest, AClockThatIsSetEndsNothingWithinARun) {
    const auto id = lend_to("a", "80000", 1000);
    now.unix_us += 1'000'000'000'000;
    pass(999'000);
    EXPECT_EQ(loan(id).state, LoanState::active);
    now.unix_us -= 2'000'000'000'000;
    pass(1'000);
    EXPECT_EQ(loan(id).state, LoanState::quiescing);
}

TEST_F(ExpiryTest, AClockThatJumpedOverARestartEndsALoanEarlierByTheJumpAtMost) {
    const auto id = lend_to("a", "80000", 1000);
    pass(100'000);
    now.unix_us += 300'000'000; // five minutes too fast
    restart();
    ASSERT_TRUE(say(lender_now(id, loan(id).epoch)));
    ASSERT_TRUE(say(borrower_now("a", 1, loan(id))));
    pass(599'999);
    EXPECT_EQ(loan(id).state, LoanState::active);
    pass(1);
    EXPECT_EQ(loan(id).state, LoanState::quiescing);
}

TEST_F(ExpiryTest, ARestartForgetsNeitherWarningsNorRenewals) {
    const auto id = lend_to("a", "80000", 1000);
    ASSERT_TRUE(renew(400));
    pass(150'000); // warned
    restart();
    ASSERT_TRUE(say(lender_now(id, loan(id).epoch)));
    ASSERT_TRUE(say(borrower_now("a", 1, loan(id))));
    EXPECT_GT(take(extend).step.lease_ms, 250'000);
    pass(249'999);
    EXPECT_EQ(audited("due-soon"), 1u);
    EXPECT_EQ(loan(id).state, LoanState::active);
    pass(1);
    EXPECT_EQ(loan(id).state, LoanState::quiescing);
}

TEST_F(ExpiryTest, ARestartStoresNoLoanThatHasNotChanged) {
    lend_to("a", "80000", 1000);
    auto made = Pool::create(disk.snapshot(), site, options, now);
    ASSERT_TRUE(made);
    EXPECT_TRUE((*made)->outcome()->loans.empty());
}

TEST_F(ExpiryTest, ManyLoansThatAreDueAtOnceAreNotOneTransaction) {
    options.timers_per_tick = 1;
    restart();
    connect_all();
    const auto first = lend_to("a", "80000", 1000);
    const auto second = lend_to("b", "80001", 1000);
    pass(700'000), pass(0); // the warnings
    pass(300'000);
    EXPECT_NE(loan(first).state == LoanState::active, loan(second).state == LoanState::active);
    EXPECT_LE(*pool->next_tick_steady_us(), now.steady_us); // and the other one at once
    pass(0);
    EXPECT_EQ(loan(first).state, LoanState::quiescing);
    EXPECT_EQ(loan(second).state, LoanState::quiescing);
}

} // namespace
} // namespace lanepool::pool
