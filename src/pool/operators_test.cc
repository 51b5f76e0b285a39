// SPDX-License-Identifier: Apache-2.0
//
// Drain, quarantine, restore, local use; and what a site says about failures.
#include "pool/test_bench.h"

#include <gmock/gmock.h>

namespace lanepool::pool {
namespace {

using ::testing::HasSubstr;
using enum StepKind;

class OperatorsTest : public testing::Bench {
  protected:
    OperatorsTest() { connect_all(); }

    auto drain(const std::string& what, bool evict = false) {
        auto loans = pool->drain({what, true, evict, "a new fan", owner()}, now);
        keep();
        return loans;
    }
    auto undrain(const std::string& what) {
        auto loans = pool->drain({what, false, false, "", owner()}, now);
        keep();
        return loans;
    }
    auto quarantine(const std::string& reason = "it smells") {
        auto fdid = pool->quarantine({"80000", reason, owner()}, now);
        keep();
        return fdid;
    }
    auto restore() {
        auto fdid = pool->restore({"80000", owner()}, now);
        keep();
        return fdid;
    }
    auto keep_local() {
        auto fdid = pool->keep_local({"80000", owner()}, now);
        keep();
        return fdid;
    }
    void use_failure_rule(const FailureRule& rule) {
        site.failures = {rule};
        restart();
        connect_all();
    }
};

// ---- drain

TEST_F(OperatorsTest, ADrainedDeviceIsNotLent) {
    ASSERT_TRUE(drain("80000"));
    EXPECT_EQ(disk.trail.back().action, "drain");
    EXPECT_EQ(disk.trail.back().reason, "a new fan");
    const auto refused = borrow("a");
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message(), HasSubstr("it is drained: a new fan"));
    EXPECT_TRUE(borrow("a", "80001"));
    ASSERT_TRUE(undrain("80000"));
    EXPECT_TRUE(borrow("a"));
}

TEST_F(OperatorsTest, ADrainedHostNeitherLendsNorBorrows) {
    ASSERT_TRUE(drain("store"));
    EXPECT_THAT(borrow("a").error().message(), HasSubstr("host store is drained"));
    ASSERT_TRUE(undrain("store"));
    ASSERT_TRUE(drain("a"));
    EXPECT_THAT(borrow("a").error().message(), HasSubstr("host a is drained"));
    EXPECT_TRUE(borrow("b"));
}

TEST_F(OperatorsTest, ADrainLeavesWhatIsLentAlone) {
    const auto id = lend_to("a");
    EXPECT_TRUE(drain("store")->empty());
    EXPECT_EQ(loan(id).state, LoanState::active);
    EXPECT_TRUE(pool->renew({"80000", 60, owner()}, now));
}

TEST_F(OperatorsTest, AnEvictingDrainAsksForWhatIsLent) {
    const auto lent = lend_to("a", "80000");
    const auto other = lend_to("b", "80001");
    EXPECT_EQ(*drain("a", true), std::vector<LoanId>{lent});
    EXPECT_EQ(loan(lent).state, LoanState::quiescing);
    EXPECT_THAT(loan(lent).reason, HasSubstr("drained by user: a new fan"));
    EXPECT_EQ(loan(other).state, LoanState::active);
    EXPECT_EQ(drain("store", true)->size(), 2u);
    EXPECT_EQ(loan(other).state, LoanState::quiescing);
}

TEST_F(OperatorsTest, ADrainSurvivesHellosAndRestarts) {
    ASSERT_TRUE(drain("store"));
    restart();
    connect_all();
    EXPECT_THAT(borrow("a").error().message(), HasSubstr("host store is drained"));
}

TEST_F(OperatorsTest, ADrainedDeviceIsNotHandedOver) {
    lend_to("a");
    const auto second = pool->reassign({"80000", "b", "", owner()}, now);
    ASSERT_TRUE(drain("80000"));
    done(detach);
    recover();
    EXPECT_EQ(loan(*second).state, LoanState::failed);
    EXPECT_EQ(device().state, DeviceState::available);
}

// ---- quarantine and restore

TEST_F(OperatorsTest, AFreeDeviceIsQuarantinedAtOnce) {
    ASSERT_TRUE(quarantine());
    EXPECT_EQ(device().state, DeviceState::quarantined);
    EXPECT_EQ(device().reason, "by user: it smells");
    EXPECT_THAT(borrow("a").error().message(), HasSubstr("it smells"));
    ASSERT_TRUE(say(lender()));
    EXPECT_EQ(device().state, DeviceState::quarantined);
}

TEST_F(OperatorsTest, AQuarantineNeedsAReason) {
    EXPECT_EQ(quarantine("").error().code(), Errc::invalid_argument);
    EXPECT_EQ(device().state, DeviceState::available);
}

TEST_F(OperatorsTest, ALentDeviceIsCutOffBeforeItsQuarantine) {
    const auto id = lend_to("a");
    ASSERT_TRUE(quarantine());
    EXPECT_EQ(loan(id).state, LoanState::detaching);
    EXPECT_EQ(device().state, DeviceState::recovering);
    done(cut);
    EXPECT_EQ(device().state, DeviceState::quarantined);
    EXPECT_EQ(loan(id).state, LoanState::returned);
    EXPECT_THAT(loan(id).reason, HasSubstr("reclaimed by user: it smells"));
    EXPECT_FALSE(device().clean);
    EXPECT_TRUE(device().condemned.empty());
}

TEST_F(OperatorsTest, AQuarantineIsNotForgottenOverARestart) {
    const auto id = lend_to("a");
    ASSERT_TRUE(quarantine());
    restart();
    ASSERT_TRUE(say(lender_now(id, loan(id).epoch)));
    sent.clear();
    pool->answered("store", {pool->awaited({0x80000})->id, id, device().epoch, cut, true, "", ""}, now);
    keep();
    EXPECT_EQ(device().state, DeviceState::quarantined);
}

TEST_F(OperatorsTest, AQuarantineOfADeviceWhoseHostIsGoneHoldsWhenItIsBack) {
    const auto id = lend_to("a");
    disconnect("store");
    ASSERT_TRUE(quarantine());
    pass(options.lender_grace_ms);
    EXPECT_EQ(device().state, DeviceState::quarantined);
    EXPECT_TRUE(has_ended(loan(id).state));
    // It still has the loan prepared: nobody is to go on using a quarantined device.
    sent.clear();
    ASSERT_TRUE(say(lender_now(id, loan(id).epoch)));
    const Order order = take(cut);
    EXPECT_GT(order.step.epoch, loan(id).epoch);
    ASSERT_TRUE(say(lender_now(id, loan(id).epoch), false)); // not asked twice
    EXPECT_TRUE(sent.empty());
    answer(order);
    EXPECT_EQ(device().state, DeviceState::quarantined);
}

TEST_F(OperatorsTest, ADeviceThatIsBeingResetCanBeQuarantined) {
    ASSERT_TRUE(pool->reset({"80000", owner()}, now));
    keep();
    const Order order = take(cut);
    ASSERT_TRUE(quarantine());
    EXPECT_EQ(device().state, DeviceState::quarantined);
    answer(order); // late
    EXPECT_EQ(device().state, DeviceState::quarantined);
    EXPECT_EQ(pool->ledger().steps.size(), 0u);
}

TEST_F(OperatorsTest, ARestoreNeedsAVerifiedResetAndSanitize) {
    ASSERT_TRUE(quarantine());
    ASSERT_TRUE(restore());
    EXPECT_EQ(device().state, DeviceState::recovering);
    EXPECT_FALSE(borrow("a"));
    recover();
    EXPECT_EQ(device().state, DeviceState::available);
    EXPECT_EQ(restore().error().code(), Errc::failed_precondition);
}

TEST_F(OperatorsTest, ARestoreNeedsItsHost) {
    ASSERT_TRUE(quarantine());
    disconnect("store");
    EXPECT_EQ(restore().error().code(), Errc::unavailable);
    EXPECT_EQ(device().state, DeviceState::quarantined);
}

// ---- local use

TEST_F(OperatorsTest, ALocalDeviceIsNeverLent) {
    ASSERT_TRUE(keep_local());
    EXPECT_EQ(device().state, DeviceState::local);
    EXPECT_THAT(borrow("a").error().message(), HasSubstr("`lanepool restore 80000`"));
    Hello hello = lender();
    hello.devices[0].clean = false; // its host uses it
    ASSERT_TRUE(say(hello));
    EXPECT_EQ(device().state, DeviceState::local);
    restart();
    ASSERT_TRUE(say(hello));
    EXPECT_EQ(device().state, DeviceState::local);
    EXPECT_TRUE(sent.empty());
}

TEST_F(OperatorsTest, ALocalDeviceIsRestoredThroughAReset) {
    ASSERT_TRUE(keep_local());
    ASSERT_TRUE(restore());
    recover();
    EXPECT_EQ(device().state, DeviceState::available);
    EXPECT_TRUE(device().clean);
}

TEST_F(OperatorsTest, ALentDeviceIsNotKeptLocal) {
    lend_to("a");
    const auto refused = keep_local();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Errc::busy);
    EXPECT_FALSE(device().kept_local);
}

TEST_F(OperatorsTest, AReturnMayLeadToLocalUse) {
    const auto id = lend_to("a");
    ASSERT_TRUE(pool->give_back({"80000", owner(), 0, true}, now));
    keep();
    done(detach);
    recover();
    EXPECT_EQ(loan(id).state, LoanState::returned);
    EXPECT_EQ(device().state, DeviceState::local);
}

TEST_F(OperatorsTest, ADeviceThatIsOfflineBecomesLocalWhenItIsBack) {
    disconnect("store");
    ASSERT_TRUE(keep_local());
    EXPECT_EQ(device().state, DeviceState::offline);
    ASSERT_TRUE(say(lender()));
    EXPECT_EQ(device().state, DeviceState::local);
}

TEST_F(OperatorsTest, AQuarantinedDeviceIsNotKeptLocal) {
    ASSERT_TRUE(quarantine());
    EXPECT_EQ(keep_local().error().code(), Errc::failed_precondition);
}

// ---- failures

TEST_F(OperatorsTest, AFailedResetIsRetriedAsOftenAsTheSiteSays) {
    FailureRule rule;
    rule.on_failed_reset = OnFailedReset::retry;
    rule.reset_retries = 2;
    use_failure_rule(rule);
    for (const bool at_last : {true, false}) {
        ASSERT_TRUE(pool->reset({"80000", owner()}, now));
        keep();
        done(cut);
        failed(reset, "no");
        EXPECT_EQ(device().failed_resets, 1u);
        failed(reset, "no");
        EXPECT_EQ(device().state, DeviceState::recovering);
        if (at_last) {
            done(reset);
            done(sanitize);
            EXPECT_EQ(device().state, DeviceState::available);
            EXPECT_EQ(device().failed_resets, 0u);
        } else {
            failed(reset, "no");
            EXPECT_EQ(device().state, DeviceState::quarantined);
        }
    }
}

TEST_F(OperatorsTest, AFailedSanitizeIsNotRetried) {
    FailureRule rule;
    rule.on_failed_reset = OnFailedReset::retry;
    rule.reset_retries = 2;
    use_failure_rule(rule);
    ASSERT_TRUE(pool->reset({"80000", owner()}, now));
    keep();
    done(cut);
    done(reset);
    failed(sanitize, "no");
    EXPECT_EQ(device().state, DeviceState::quarantined);
}

TEST_F(OperatorsTest, ACrashedBorrowerIsWaitedForAsTheSiteSays) {
    FailureRule rule;
    rule.on_borrower_crash = OnBorrowerCrash::wait;
    rule.wait_s = 60;
    use_failure_rule(rule);
    const auto id = lend_to("a");
    disconnect("a");
    pass(59'999);
    EXPECT_EQ(loan(id).state, LoanState::active);
    ASSERT_TRUE(say(borrower_now("a", 1, loan(id))));
    pass(60'000);
    EXPECT_EQ(loan(id).state, LoanState::active);
    disconnect("a");
    pass(60'000);
    EXPECT_EQ(loan(id).state, LoanState::detaching);
    recover();
    EXPECT_EQ(loan(id).state, LoanState::failed);
}

TEST_F(OperatorsTest, ABorrowerThatIsWaitedForIsNotAskedToLetGo) {
    FailureRule rule;
    rule.on_borrower_crash = OnBorrowerCrash::wait;
    rule.wait_s = 3600;
    use_failure_rule(rule);
    const auto id = lend_to("a");
    disconnect("a");
    pass(10'000);
    ASSERT_TRUE(pool->give_back({"80000", owner()}, now));
    keep();
    EXPECT_EQ(loan(id).state, LoanState::detaching);
}

TEST_F(OperatorsTest, AReturnDoesNotWaitForABorrowerAsItsLoanWould) {
    FailureRule rule;
    rule.on_borrower_crash = OnBorrowerCrash::wait;
    rule.wait_s = 3600;
    use_failure_rule(rule);
    const auto id = lend_to("a");
    ASSERT_TRUE(pool->give_back({"80000", owner()}, now));
    keep();
    disconnect("a");
    pass(options.borrower_grace_ms);
    EXPECT_EQ(loan(id).state, LoanState::detaching);
}

TEST_F(OperatorsTest, AReturnDuringTheBorrowersGraceDoesNotWaitLonger) {
    FailureRule rule;
    rule.on_borrower_crash = OnBorrowerCrash::wait;
    rule.wait_s = 3600;
    use_failure_rule(rule);
    const auto id = lend_to("a");
    disconnect("a");
    ASSERT_TRUE(pool->give_back({"80000", owner()}, now));
    keep();
    EXPECT_EQ(loan(id).state, LoanState::quiescing);
    pass(options.borrower_grace_ms);
    EXPECT_EQ(loan(id).state, LoanState::detaching);
}

TEST_F(OperatorsTest, TheFirstFailureRuleOfTheDevicesClassCounts) {
    Selector other;
    other.device = "store/nvme1";
    site.classes = {{"second", {other}}};
    FailureRule wait;
    wait.classes = {"second"};
    wait.on_borrower_crash = OnBorrowerCrash::wait;
    wait.wait_s = 60;
    use_failure_rule(wait);
    const auto first = lend_to("a", "80000");
    const auto second = lend_to("a", "80001");
    disconnect("a");
    pass(options.borrower_grace_ms);
    EXPECT_EQ(loan(first).state, LoanState::detaching);
    EXPECT_EQ(loan(second).state, LoanState::active);
}

TEST_F(OperatorsTest, WhereNothingHasToBeErasedAVerifiedResetIsEnough) {
    Rule rule;
    rule.name = "scratch";
    rule.sanitize = false;
    site.rules = {rule};
    restart();
    connect_all();
    const auto id = lend_to("a");
    ASSERT_TRUE(pool->give_back({"80000", owner()}, now));
    keep();
    done(detach);
    done(cut);
    const Order order = take(reset);
    EXPECT_TRUE(order.step.suffices);
    answer(order);
    EXPECT_EQ(loan(id).state, LoanState::returned);
    EXPECT_EQ(device().state, DeviceState::available);
    EXPECT_TRUE(sent.empty());
}

TEST_F(OperatorsTest, ADeviceThatIsRecoveredWithoutALoanIsAlwaysErased) {
    Rule rule;
    rule.name = "scratch";
    rule.sanitize = false;
    site.rules = {rule};
    restart();
    connect_all();
    ASSERT_TRUE(pool->reset({"80000", owner()}, now));
    keep();
    done(cut);
    EXPECT_FALSE(sent.front().step.suffices);
    done(reset);
    EXPECT_EQ(device().state, DeviceState::recovering);
    done(sanitize);
    EXPECT_EQ(device().state, DeviceState::available);
}

} // namespace
} // namespace lanepool::pool
