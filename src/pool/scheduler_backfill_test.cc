// SPDX-License-Identifier: Apache-2.0
//
// Going ahead of those that wait, and making others end.
#include "pool/scheduler_bench.h"

namespace lanepool::pool::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class SchedulerWaits : public ::testing::Test, protected Records {
  protected:
    SchedulerWaits() {
        add_host("store");
        add_host("a");
        add_host("b");
    }
    Loan of(int32_t priority, int64_t duration_s = 0, const std::string& kind = "nvme") {
        Loan loan = wish("a", kind);
        loan.priority = priority;
        loan.duration_s = duration_s;
        return loan;
    }
    // One drive is free, the other one is due in 100 s, and a group wants both.
    void group_waits_for_100_s() {
        free_drive = add_device("store");
        busy_loan = lend(add_device("store"), of(0, 100));
        group = queue_group({of(5), of(5)});
    }
    Fdid free_drive;
    LoanId busy_loan;
    LoanId group;
};
using BackfillTest = SchedulerWaits;
using PreemptionTest = SchedulerWaits;

TEST_F(BackfillTest, WhatAWaitingGroupWillNeedIsKept) {
    group_waits_for_100_s();
    const LoanId low = queue(of(0));
    const Decision decision = decide();
    EXPECT_THAT(decision.starts, IsEmpty());
    EXPECT_THAT(why(decision, low), HasSubstr(fmt::format("kept for loan:{}", group)));
    EXPECT_THAT(why(decision, group), HasSubstr("1 of 2 can be had now"));
}

TEST_F(BackfillTest, WhoIsBackInTimeGoesAhead) {
    group_waits_for_100_s();
    const LoanId low = queue(of(0, 100));
    EXPECT_EQ(given(decide()).count(low), 1u);
}

TEST_F(BackfillTest, WhoIsBackInTimeGoesAheadOfAGroupThatWantsTheSameInOtherWords) {
    add_device("store");
    lend(add_device("store"), of(0, 100));
    Loan by_size = of(5);
    by_size.wanted.least_capacity_bytes = 500;
    queue_group({of(5), by_size});
    const LoanId low = queue(of(0, 100));
    EXPECT_EQ(given(decide()).count(low), 1u);
}

TEST_F(BackfillTest, WhoIsNotDoesNot) {
    group_waits_for_100_s();
    queue(of(0, 101));
    EXPECT_THAT(decide().starts, IsEmpty());
}

TEST_F(BackfillTest, WhatTheGroupCannotUseIsFree) {
    group_waits_for_100_s();
    add_device("store", "gpu");
    const LoanId low = queue(of(0, 0, "gpu"));
    EXPECT_EQ(given(decide()).count(low), 1u);
}

TEST_F(BackfillTest, WhatTheGroupHasTooMuchOfIsFree) {
    add_device("store", "gpu");
    lend(add_device("store", "gpu"), of(0, 100, "gpu"));
    add_device("store");
    add_device("store");
    queue_group({of(5, 0, "gpu"), of(5, 0, "gpu"), of(5)});
    const LoanId low = queue(of(0));
    const LoanId lower = queue(of(0));
    const auto served = given(decide());
    EXPECT_EQ(served.count(low), 1u);
    EXPECT_EQ(served.count(lower), 0u);
}

TEST_F(BackfillTest, AWishForABusyDeviceHoldsUpNobody) {
    const Fdid busy = add_device("store");
    lend(busy, of(0));
    add_device("store");
    Loan high = of(9);
    high.wanted = {};
    high.wanted.device = fmt::format("{}", busy);
    queue(high);
    const LoanId low = queue(of(0));
    EXPECT_EQ(given(decide()).count(low), 1u);
}

TEST_F(BackfillTest, AGroupBehindAGroupKeepsWhatIsLeft) {
    add_device("store");
    add_device("store");
    lend(add_device("store"), of(0, 100));
    queue_group({of(5), of(5), of(5)});
    queue_group({of(4), of(4)});
    queue(of(0));
    EXPECT_THAT(decide().starts, IsEmpty());
}

TEST_F(BackfillTest, TheGroupStartsWhenTheOtherIsBack) {
    group_waits_for_100_s();
    queue(of(0));
    serve();
    end(busy_loan);
    const auto served = given(decide());
    EXPECT_EQ(served.size(), 2u);
    EXPECT_EQ(served.count(group), 1u);
}

TEST_F(BackfillTest, NobodyGoesAheadWhereTheGroupMayStartAtAnyMoment) {
    group_waits_for_100_s();
    change_loan(busy_loan, [](Loan& loan) { loan.state = LoanState::resetting; });
    queue(of(0, 1));
    EXPECT_THAT(decide().starts, IsEmpty());
}

TEST_F(BackfillTest, TheWindowsOfAWaitingGroupAreKept) {
    group_waits_for_100_s();
    add_device("store", "gpu");
    change_host("store", [](Host& host) { host.windows_free = 1; });
    queue(of(0, 0, "gpu"));
    EXPECT_THAT(decide().starts, IsEmpty());
    queue(of(0, 100, "gpu"));
    EXPECT_EQ(decide().starts.size(), 1u);
}

TEST_F(BackfillTest, BeyondTheShadowsThatAreWorkedOutNobodyGoesAhead) {
    SchedulerLimits limits = Records::limits();
    limits.shadows = 0;
    Scheduler strict({}, limits);
    group_waits_for_100_s();
    queue(of(0, 1));
    for (const auto& [name, host] : hosts)
        strict.note(host, true);
    for (const auto& [fdid, device] : devices)
        strict.note(device, true);
    for (const auto& [id, loan] : loans)
        strict.note(loan, true);
    EXPECT_THAT(strict.decide(now).starts, IsEmpty());
    EXPECT_EQ(decide().starts.size(), 1u);
}

// ---- Pre-emption

TEST_F(PreemptionTest, AWishThatMayTakesFromALowerPriority) {
    Loan weak = of(1);
    weak.preemptible = true;
    const LoanId victim = lend(add_device("store"), weak);
    Loan strong = of(5);
    strong.preempts = true;
    queue(strong);
    EXPECT_EQ(decide().preemptions, (std::vector<Preemption>{{victim, strong.id}}));
}

TEST_F(PreemptionTest, OneThatMayNotDoesNot) {
    Loan weak = of(1);
    weak.preemptible = true;
    lend(add_device("store"), weak);
    queue(of(5));
    EXPECT_THAT(decide().preemptions, IsEmpty());
}

TEST_F(PreemptionTest, OnlyPreemptibleLoansOfLowerPriorityEnd) {
    Loan equal = of(5);
    equal.preemptible = true;
    lend(add_device("store"), equal);
    lend(add_device("store"), of(1));
    Loan strong = of(5);
    strong.preempts = true;
    queue(strong);
    EXPECT_THAT(decide().preemptions, IsEmpty());
}

TEST_F(PreemptionTest, NothingEndsWhileThereIsAFreeOne) {
    Loan weak = of(1);
    weak.preemptible = true;
    lend(add_device("store"), weak);
    add_device("store");
    Loan strong = of(5);
    strong.preempts = true;
    queue(strong);
    const Decision decision = decide();
    EXPECT_THAT(decision.preemptions, IsEmpty());
    EXPECT_EQ(decision.starts.size(), 1u);
}

TEST_F(PreemptionTest, TheLowestPriorityEndsAndOfThoseTheLatestBegun) {
    Loan weak = of(1);
    weak.preemptible = true;
    lend(add_device("store"), weak);
    pass_s(10);
    Loan later = of(1);
    later.preemptible = true;
    const LoanId latest = lend(add_device("store"), later);
    pass_s(10);
    Loan stronger = of(2);
    stronger.preemptible = true;
    lend(add_device("store"), stronger);
    Loan strong = of(5);
    strong.preempts = true;
    queue(strong);
    EXPECT_EQ(decide().preemptions, (std::vector<Preemption>{{latest, strong.id}}));
}

TEST_F(PreemptionTest, AGroupMakesOnlyAsManyEndAsItIsShortOf) {
    add_device("store");
    for (int i = 0; i < 3; ++i) {
        Loan weak = of(1);
        weak.preemptible = true;
        lend(add_device("store"), weak);
    }
    Loan strong = of(5);
    strong.preempts = true;
    Loan second = of(5);
    second.preempts = true;
    queue_group({strong, second});
    const Decision decision = serve();
    EXPECT_EQ(decision.preemptions.size(), 1u);
    EXPECT_THAT(decision.starts, IsEmpty());
    EXPECT_EQ(decision.preemptions.front().winner, strong.id);
}

TEST_F(PreemptionTest, NobodyEndsForAGroupThatIsShortAllTheSame) {
    Loan weak = of(1);
    weak.preemptible = true;
    lend(add_device("store"), weak);
    Loan strong = of(5);
    strong.preempts = true;
    Loan second = of(5, 0, "gpu");
    second.preempts = true;
    queue_group({strong, second});
    EXPECT_THAT(decide().preemptions, IsEmpty());
}

TEST_F(PreemptionTest, WhatEndsForItAlreadyCounts) {
    for (int i = 0; i < 2; ++i) {
        Loan weak = of(1);
        weak.preemptible = true;
        lend(add_device("store"), weak);
    }
    Loan strong = of(5);
    strong.preempts = true;
    queue(strong);
    ASSERT_EQ(serve().preemptions.size(), 1u);
    const Decision decision = decide();
    EXPECT_THAT(decision.preemptions, IsEmpty());
    EXPECT_THAT(why(decision, strong.id), HasSubstr("waits for what is ending for it: loan:1"));
}

TEST_F(PreemptionTest, TwoWishesMakeTwoLoansEnd) {
    std::set<LoanId> weak_ones;
    for (int i = 0; i < 2; ++i) {
        Loan weak = of(1);
        weak.preemptible = true;
        weak_ones.insert(lend(add_device("store"), weak));
    }
    for (int i = 0; i < 2; ++i) {
        Loan strong = of(5);
        strong.preempts = true;
        queue(strong);
    }
    std::set<LoanId> victims;
    for (const auto& one : serve().preemptions)
        victims.insert(one.victim);
    EXPECT_EQ(victims, weak_ones);
}

TEST_F(PreemptionTest, TheWinnerGetsTheDevice) {
    Loan weak = of(1);
    weak.preemptible = true;
    const LoanId victim = lend(add_device("store"), weak);
    Loan strong = of(5);
    strong.preempts = true;
    queue(strong);
    serve();
    queue(of(0));
    end(victim);
    EXPECT_EQ(given(decide()).count(strong.id), 1u);
}

TEST_F(PreemptionTest, RulesHoldForWhatIsTakenToo) {
    check = [](const Loan&, const Device&) -> Result<> { return fail(Errc::permission_denied, "no"); };
    Loan weak = of(1);
    weak.preemptible = true;
    lend(add_device("store"), weak);
    Loan strong = of(5);
    strong.preempts = true;
    queue(strong);
    EXPECT_THAT(decide().preemptions, IsEmpty());
}

TEST_F(PreemptionTest, ATryTellsWhoWouldHaveToEnd) {
    Loan weak = of(1);
    weak.preemptible = true;
    const LoanId victim = lend(add_device("store"), weak);
    Loan strong = of(5);
    strong.preempts = true;
    const Placement placement = scheduler.place({strong}, now);
    EXPECT_FALSE(placement.now);
    EXPECT_EQ(placement.preemptions, (std::vector<Preemption>{{victim, {1}}}));
    EXPECT_THAT(decide().preemptions, IsEmpty());
}

} // namespace
} // namespace lanepool::pool::testing
