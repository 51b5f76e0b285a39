// SPDX-License-Identifier: Apache-2.0
//
// Order and eligibility; the rest is in the other scheduler_*_test.cc.
#include "pool/scheduler_bench.h"

namespace lanepool::pool::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST_F(SchedulerTest, ServesAWishWithADeviceThatItWants) {
    add_device("store", "gpu");
    const Fdid nvme = add_device("store");
    const LoanId loan = queue(wish("a"));
    EXPECT_EQ(given(decide()), (std::map<LoanId, Fdid>{{loan, nvme}}));
}

TEST_F(SchedulerTest, DecidesTheSameUntilTheRecordsSaySo) {
    add_device("store");
    queue(wish("a"));
    EXPECT_EQ(decide().starts, decide().starts);
    serve();
    EXPECT_THAT(decide().starts, IsEmpty());
}

TEST_F(SchedulerTest, GivesOneDeviceToOneWish) {
    add_device("store");
    const LoanId first = queue(wish("a"));
    queue(wish("b"));
    EXPECT_EQ(given(serve()).count(first), 1u);
    EXPECT_THAT(decide().starts, IsEmpty());
}

TEST_F(SchedulerTest, AHigherPriorityGoesFirst) {
    add_device("store");
    queue(of("t", 1));
    pass_s(1);
    const LoanId high = queue(of("t", 5));
    EXPECT_EQ(given(decide()).count(high), 1u);
}

TEST_F(SchedulerTest, WithinATenantTheOldestGoesFirst) {
    const Fdid fdid = add_device("store");
    Loan late = of("t");
    late.created_us += 1'000'000;
    queue(late);
    const LoanId early = queue(of("t"));
    EXPECT_EQ(given(decide()), (std::map<LoanId, Fdid>{{early, fdid}}));
}

TEST_F(SchedulerTest, TheTenantWhoHasUsedLessGoesFirst) {
    add_device("store");
    queue(of("greedy"));
    pass_s(1);
    const LoanId modest = queue(of("modest"));
    scheduler.note(usage["greedy"] = Usage{"greedy", 5000, now.unix_us}, true);
    EXPECT_EQ(given(decide()).count(modest), 1u);
}

TEST_F(SchedulerTest, AShareCountsAsOftenAsItSays) {
    site.tenants = {{"big", 10, 0}, {"small", 1, 0}};
    scheduler.set_site(site);
    scheduler.note(usage["big"] = Usage{"big", 5000, now.unix_us}, true);
    scheduler.note(usage["small"] = Usage{"small", 600, now.unix_us}, true);
    add_device("store");
    queue(of("small"));
    const LoanId big = queue(of("big"));
    EXPECT_EQ(given(decide()).count(big), 1u);
}

TEST_F(SchedulerTest, RunningLoansCountAsTheyRun) {
    lend(add_device("store"), of("runs"));
    pass_s(3600);
    add_device("store");
    queue(of("runs"));
    pass_s(1);
    const LoanId other = queue(of("other"));
    EXPECT_EQ(given(decide()).count(other), 1u);
}

TEST_F(SchedulerTest, OneDecisionServesTenantsInTurn) {
    add_device("store");
    add_device("store");
    const LoanId first = queue(of("one"));
    queue(of("one"));
    pass_s(1);
    const LoanId other = queue(of("other"));
    const auto served = given(decide());
    EXPECT_EQ(served.count(first), 1u);
    EXPECT_EQ(served.count(other), 1u);
}

TEST_F(SchedulerTest, NobodyStarvesWithinAPriority) {
    const Fdid fdid = add_device("store");
    const LoanId patient = queue(of("patient"));
    scheduler.note(usage["patient"] = Usage{"patient", 4000, now.unix_us}, true);
    bool served = false;
    for (int i = 0; i < 200 && !served; ++i) {
        queue(of("busy"));
        const auto given_now = given(serve());
        ASSERT_EQ(given_now.size(), 1u);
        served = given_now.contains(patient);
        pass_s(300);
        const LoanId done = given_now.begin()->first;
        const Usage before = usage.contains("busy") ? usage["busy"] : Usage{"busy", 0, 0};
        if (!served) {
            if (usage.contains("busy")) scheduler.note(usage["busy"], false);
            usage["busy"] = {"busy", before.used_s + 300, now.unix_us};
            scheduler.note(usage["busy"], true);
        }
        end(done);
    }
    EXPECT_TRUE(served);
    EXPECT_EQ(devices.at(fdid).state, DeviceState::available);
}

TEST_F(SchedulerTest, GivesNothingThatIsNotAvailable) {
    const Fdid fdid = add_device("store");
    queue(wish("a"));
    for (const DeviceState state : device_states) {
        change_device(fdid, [&](Device& device) { device.state = state; });
        EXPECT_EQ(decide().starts.size(), state == DeviceState::available ? 1u : 0u) << name(state);
    }
}

TEST_F(SchedulerTest, GivesNothingThatIsDrainedKeptOrPromised) {
    const Fdid fdid = add_device("store");
    queue(wish("a"));
    change_device(fdid, [](Device& device) { device.draining = "maintenance"; });
    EXPECT_THAT(decide().starts, IsEmpty());
    change_device(fdid, [](Device& device) {
        device.draining.clear();
        device.kept_local = true;
    });
    EXPECT_THAT(decide().starts, IsEmpty());
    change_device(fdid, [](Device& device) {
        device.kept_local = false;
        device.successor = {99};
    });
    EXPECT_THAT(decide().starts, IsEmpty());
    change_device(fdid, [](Device& device) { device.successor = {}; });
    EXPECT_EQ(decide().starts.size(), 1u);
}

TEST_F(SchedulerTest, GivesNothingOfALenderThatIsDownOrDraining) {
    add_device("store");
    queue(wish("a"));
    change_host("store", [](Host& host) { host.up = false; });
    EXPECT_THAT(decide().starts, IsEmpty());
    change_host("store", [](Host& host) {
        host.up = true;
        host.draining = "maintenance";
    });
    EXPECT_THAT(decide().starts, IsEmpty());
    change_host("store", [](Host& host) { host.draining.clear(); });
    EXPECT_EQ(decide().starts.size(), 1u);
}

TEST_F(SchedulerTest, SkipsABorrowerThatIsDownAndServesTheNext) {
    add_device("store");
    const LoanId absent = queue(wish("a"));
    const LoanId present = queue(wish("b"));
    change_host("a", [](Host& host) { host.up = false; });
    EXPECT_EQ(given(decide()).count(present), 1u);
    change_host("a", [](Host& host) { host.up = true; });
    EXPECT_EQ(given(decide()).count(absent), 1u);
}

TEST_F(SchedulerTest, SkipsABorrowerThatIsDraining) {
    add_device("store");
    queue(wish("a"));
    change_host("a", [](Host& host) { host.draining = "moves"; });
    const Decision decision = decide();
    EXPECT_THAT(decision.starts, IsEmpty());
}

TEST_F(SchedulerTest, AHostDoesNotBorrowFromItself) {
    const Fdid own = add_device("a");
    const LoanId self = queue(wish("a"));
    EXPECT_THAT(decide().starts, IsEmpty());
    EXPECT_THAT(scheduler.explain(self, now).why.front(), HasSubstr("borrow from itself"));
    const LoanId other = queue(wish("b"));
    EXPECT_EQ(given(decide()), (std::map<LoanId, Fdid>{{other, own}}));
}

TEST_F(SchedulerTest, TheSiteSaysWhoLendsAndWhoBorrows) {
    add_device("store");
    queue(wish("a"));
    site.hosts[0].lends = false;
    scheduler.set_site(site);
    EXPECT_THAT(decide().starts, IsEmpty());
    site.hosts[0].lends = true;
    site.hosts[1].borrows = false;
    scheduler.set_site(site);
    EXPECT_THAT(decide().starts, IsEmpty());
    site.hosts[1].borrows = true;
    scheduler.set_site(site);
    EXPECT_EQ(decide().starts.size(), 1u);
}

TEST_F(SchedulerTest, TakesNoMoreWindowsThanTheLenderHas) {
    for (int i = 0; i < 3; ++i)
        add_device("store");
    change_host("store", [](Host& host) { host.windows_free = 2; });
    for (int i = 0; i < 3; ++i)
        queue(wish("a"));
    EXPECT_EQ(decide().starts.size(), 2u);
}

TEST_F(SchedulerTest, TakesNoMoreWindowsThanTheBorrowerHas) {
    for (int i = 0; i < 3; ++i)
        add_device("store");
    change_host("a", [](Host& host) { host.windows_free = 1; });
    for (int i = 0; i < 3; ++i)
        queue(wish("a"));
    const LoanId other = queue(wish("b"));
    const auto served = given(decide());
    EXPECT_EQ(served.size(), 2u);
    EXPECT_EQ(served.count(other), 1u);
}

TEST_F(SchedulerTest, LoansThatAreBeingSetUpHaveTheirWindows) {
    change_host("store", [](Host& host) { host.windows_free = 1; });
    const Fdid first = add_device("store");
    add_device("store");
    const LoanId loan = queue(wish("a"));
    start({loan, first, ""});
    change_loan(loan, [](Loan& one) { one.state = LoanState::attaching; });
    queue(wish("b"));
    EXPECT_THAT(decide().starts, IsEmpty());
    change_loan(loan, [](Loan& one) { one.state = LoanState::active; }); // its agents count it now
    EXPECT_EQ(decide().starts.size(), 1u);
}

TEST_F(SchedulerTest, AHostThatDoesNotCountItsWindowsHasNoLimit) {
    for (int i = 0; i < 3; ++i)
        add_device("store");
    change_host("store", [](Host& host) { host.windows = host.windows_free = 0; });
    for (int i = 0; i < 3; ++i)
        queue(wish("a"));
    EXPECT_EQ(decide().starts.size(), 3u);
}

TEST_F(SchedulerTest, RulesRefuseDevices) {
    add_device("store");
    const Fdid isolated = add_device("store");
    change_device(isolated, [](Device& device) { device.iommu = true; });
    check = [](const Loan&, const Device& device) -> Result<> {
        if (device.iommu) return {};
        return fail(Errc::permission_denied, "no IOMMU isolates it");
    };
    const LoanId first = queue(wish("a"));
    const LoanId second = queue(wish("a"));
    const Decision decision = decide();
    EXPECT_EQ(given(decision), (std::map<LoanId, Fdid>{{first, isolated}}));
    EXPECT_THAT(why(decision, second), HasSubstr("no IOMMU isolates it"));
}

TEST_F(SchedulerTest, ATenantHasNoMoreLoansThanItMay) {
    site.tenants = {{"t", 1, 2}};
    scheduler.set_site(site);
    for (int i = 0; i < 3; ++i)
        add_device("store");
    lend(add_device("store"), of("t"));
    queue(of("t"));
    const LoanId over = queue(of("t"));
    const LoanId other = queue(of("other"));
    const Decision decision = decide();
    EXPECT_EQ(given(decision).count(other), 1u);
    EXPECT_EQ(decision.starts.size(), 2u);
    EXPECT_THAT(scheduler.explain(over, now).why.front(), HasSubstr("may have 2 at once"));
}

TEST_F(SchedulerTest, ATenantHasNoMoreLoansUnderARuleThanItMay) {
    Rule rule;
    rule.name = "one only";
    rule.most_loans = 1;
    site.rules = {rule};
    scheduler.set_site(site);
    add_device("store");
    add_device("store");
    Loan first = of("t");
    first.rule = "one only";
    queue(first);
    Loan second = of("t");
    second.rule = "one only";
    queue(second);
    EXPECT_EQ(serve().starts.size(), 1u);
    EXPECT_THAT(decide().starts, IsEmpty());
}

// ---- Notes

TEST_F(SchedulerTest, AnUndoneChangeLeavesNothingBehind) {
    const Fdid fdid = add_device("store");
    const LoanId loan = queue(wish("a"));
    start({loan, fdid, ""});
    change_loan(loan, [](Loan& one) {
        one.state = LoanState::queued;
        one.fdid = {};
        one.active_us = 0;
    });
    change_device(fdid, [](Device& device) {
        device.state = DeviceState::available;
        device.loan = {};
    });
    EXPECT_EQ(given(decide()), (std::map<LoanId, Fdid>{{loan, fdid}}));
    EXPECT_EQ(scheduler.used_s("", now), 0);
}

TEST_F(SchedulerTest, AQueuedLoanThatNamesItsDeviceIsLeftAlone) {
    const Fdid fdid = add_device("store");
    Loan loan = wish("a");
    loan.fdid = fdid;
    queue(loan);
    EXPECT_THAT(decide().starts, IsEmpty());
}

TEST_F(SchedulerTest, AnEmptySelectorMeansNothing) {
    add_device("store");
    Loan loan = wish("a");
    loan.wanted = {};
    queue(loan);
    EXPECT_THAT(decide().starts, IsEmpty());
    EXPECT_FALSE(scheduler.place({loan}, now).now);
}

// ---- Limits

TEST_F(SchedulerTest, WhoWasNotLookedAtHearsNothingAndIsLookedAtLater) {
    add_device("store");
    const LoanId loan = queue(wish("a"));
    SchedulerLimits none = Records::limits();
    none.looks = none.sweep_looks = 0;
    Scheduler hasty({}, none);
    for (const auto& [name, host] : hosts)
        hasty.note(host, true);
    for (const auto& [fdid, device] : devices)
        hasty.note(device, true);
    hasty.note(loans.at(loan), true);
    const Decision decision = hasty.decide(now);
    EXPECT_THAT(decision.starts, IsEmpty());
    EXPECT_THAT(decision.waiting, IsEmpty());
    EXPECT_TRUE(decision.more);
}

} // namespace
} // namespace lanepool::pool::testing
