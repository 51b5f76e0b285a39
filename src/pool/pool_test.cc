// SPDX-License-Identifier: Apache-2.0
#include "pool/test_bench.h"

#include <gmock/gmock.h>

namespace lanepool::pool {
namespace {

using ::testing::HasSubstr;
using enum StepKind;

class PoolTest : public testing::Bench {
  protected:
    PoolTest() { connect_all(); }
};

TEST_F(PoolTest, GivesEachDeviceAnFdidForEver) {
    const auto fdids = say(lender());
    ASSERT_TRUE(fdids);
    EXPECT_EQ(*fdids, (std::vector<Fdid>{{0x80000}, {0x80001}}));
    restart();
    EXPECT_EQ(*say(lender()), *fdids);
    Hello exchanged = lender();
    exchanged.devices[0].identity.serial = "another";
    EXPECT_EQ((*say(exchanged))[0], Fdid{0x80002});
    EXPECT_EQ(device(0x80000).state, DeviceState::offline);
    EXPECT_EQ(*pool->find_device("store/nvme0"), Fdid{0x80002});
}

TEST_F(PoolTest, BorrowsStepByStep) {
    const auto id = borrow("a");
    ASSERT_TRUE(id);
    EXPECT_EQ(loan(*id).state, LoanState::preparing);
    EXPECT_EQ(loan(*id).guest, "g");
    EXPECT_EQ(device().state, DeviceState::reserved);
    EXPECT_EQ(device().epoch, Epoch{1});
    const Order prepare = take(StepKind::prepare);
    EXPECT_EQ(prepare.step.host, "store");
    EXPECT_EQ(prepare.device, "nvme0");
    EXPECT_EQ(prepare.borrower_partition, 1u);
    EXPECT_EQ(prepare.step.epoch, Epoch{1});
    answer(prepare);
    EXPECT_EQ(loan(*id).state, LoanState::attaching);
    const Order attach = take(StepKind::attach);
    EXPECT_EQ(attach.step.host, "a");
    EXPECT_EQ(attach.guest, "g");
    now.steady_us += 1234;
    answer(attach);
    EXPECT_EQ(loan(*id).state, LoanState::active);
    EXPECT_EQ(device().state, DeviceState::lent);
    EXPECT_EQ(loan(*id).steps.back(), (StepTime{StepKind::attach, 1234}));
    EXPECT_TRUE(sent.empty());
}

TEST_F(PoolTest, ReturnsStepByStep) {
    const auto id = lend_to("a");
    ASSERT_TRUE(pool->give_back({"80000", owner("user"), 3000}, now));
    keep();
    EXPECT_EQ(loan(id).state, LoanState::quiescing);
    const Order detach = take(StepKind::detach);
    EXPECT_EQ(detach.step.deadline_ms, 3000u);
    EXPECT_EQ(detach.step.epoch, loan(id).epoch);
    answer(detach);
    EXPECT_EQ(loan(id).state, LoanState::detaching);
    EXPECT_EQ(device().state, DeviceState::recovering);
    const Order cut = take(StepKind::cut);
    EXPECT_GT(cut.step.epoch, loan(id).epoch);
    answer(cut);
    EXPECT_EQ(loan(id).state, LoanState::resetting);
    done(StepKind::reset);
    EXPECT_EQ(device().state, DeviceState::recovering);
    done(StepKind::sanitize);
    EXPECT_EQ(loan(id).state, LoanState::returned);
    EXPECT_EQ(loan(id).reason, "returned by user");
    EXPECT_EQ(device().state, DeviceState::available);
    EXPECT_FALSE(device().loan);
    EXPECT_TRUE(sent.empty());
}

TEST_F(PoolTest, RefusesALentDeviceNamingTheHolder) {
    lend_to("a", "80000", 3600);
    const auto second = borrow("b");
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code(), Errc::busy);
    EXPECT_EQ(second.error().message(),
              "device 80000 (store/nvme0) is lent to host a (guest g) by loan 1, due "
              "2023-11-14T23:13:20Z; wait, or `lanepool reclaim 80000`");
    EXPECT_TRUE(sent.empty());
    EXPECT_EQ(disk.trail.back().action, "borrow-refused");
    EXPECT_EQ(disk.trail.back().fdid, Fdid{0x80000});
}

TEST_F(PoolTest, RefusesWhatCannotBe) {
    const auto refused = [&](const BorrowRequest& wrong) {
        const auto loan = pool->borrow(wrong, now);
        EXPECT_FALSE(loan);
        return loan ? Errc::internal : loan.error().code();
    };
    EXPECT_EQ(refused(request("a", "80009", 0, "")), Errc::not_found);
    EXPECT_EQ(refused(request("a", "", 0, "")), Errc::invalid_argument);
    EXPECT_EQ(refused(request("a", "store/nvme9", 0, "")), Errc::not_found);
    EXPECT_EQ(refused(request("a", "80000x", 0, "")), Errc::not_found);
    EXPECT_EQ(refused(request("nobody", "80000", 0, "")), Errc::not_found);
    EXPECT_EQ(refused(request("a", "80000", 0, "other")), Errc::not_found);
    EXPECT_EQ(refused(request("store", "80000", 0, "")), Errc::not_supported);
    EXPECT_EQ(refused(request("a", "80000", -1, "")), Errc::out_of_range);
    EXPECT_EQ(refused(request("a", "80000", INT64_MAX, "")), Errc::out_of_range);
    disconnect("a");
    EXPECT_EQ(refused(request("a", "80000", 0, "")), Errc::unavailable);
    disconnect("store");
    EXPECT_EQ(refused(request("b", "80000", 0, "")), Errc::unavailable);
    EXPECT_EQ(pool->ledger().loans.size(), 0u);
}

TEST_F(PoolTest, WantsTheGuestNamedWhereThereAreSeveral) {
    Hello two = borrower("a", 1);
    two.guests = {"g", "h"};
    ASSERT_TRUE(say(two));
    const auto unnamed = borrow("a");
    ASSERT_FALSE(unnamed);
    EXPECT_THAT(unnamed.error().message(), HasSubstr("g, h"));
    EXPECT_TRUE(pool->borrow(request("a", "store/nvme0", 0, "h"), now));
}

TEST_F(PoolTest, ADuplicateOfAnAnswerChangesNothing) {
    const auto id = borrow("a");
    const Order prepare = take(StepKind::prepare);
    answer(prepare);
    const auto trail = disk.trail.size();
    answer(prepare);
    answer(prepare, false, "and now not");
    EXPECT_EQ(disk.trail.size(), trail);
    EXPECT_EQ(loan(*id).state, LoanState::attaching);
    EXPECT_EQ(sent.size(), 1u);
}

TEST_F(PoolTest, IgnoresAnswersThatAreNotToItsStep) {
    const auto id = borrow("a");
    const Step step = take(StepKind::prepare).step;
    const auto give = [&](const std::string& host, StepAnswer wrong) {
        wrong.ok = true;
        pool->answered(host, wrong, now);
        EXPECT_TRUE(pool->outcome()->empty());
    };
    give("b", {step.id, step.loan, step.epoch, step.kind, true, "", ""});
    give("store", {step.id, step.loan, Epoch{0}, step.kind, true, "", ""});
    give("store", {step.id, step.loan, step.epoch, StepKind::reset, true, "", ""});
    give("store", {step.id, LoanId{99}, step.epoch, step.kind, true, "", ""});
    give("store", {StepId{99}, step.loan, step.epoch, step.kind, true, "", ""});
    EXPECT_EQ(loan(*id).state, LoanState::preparing);
}

TEST_F(PoolTest, AFailedPrepareGivesTheDeviceBackClean) {
    const auto id = borrow("a");
    failed(StepKind::prepare, "no window free");
    EXPECT_EQ(loan(*id).state, LoanState::detaching);
    recover();
    EXPECT_EQ(loan(*id).state, LoanState::failed);
    EXPECT_THAT(loan(*id).reason, HasSubstr("no window free"));
    EXPECT_EQ(device().state, DeviceState::available);
    EXPECT_TRUE(sent.empty()); // the borrower never heard of it
}

TEST_F(PoolTest, AFailedAttachIsCutAndForgotten) {
    const auto id = borrow("a");
    done(StepKind::prepare);
    failed(StepKind::attach, "the guest's driver refused it");
    const Order detach = take(StepKind::detach);
    EXPECT_EQ(detach.step.host, "a");
    recover();
    EXPECT_EQ(loan(*id).state, LoanState::failed);
    EXPECT_EQ(device().state, DeviceState::available);
    answer(detach);
    EXPECT_EQ(device().state, DeviceState::available);
}

TEST_F(PoolTest, AGuestThatDoesNotLetGoIsCutAllTheSame) {
    const auto id = lend_to("a");
    ASSERT_TRUE(pool->give_back({"loan:1", owner("user"), 1000}, now));
    keep();
    pass(2999);
    EXPECT_EQ(loan(id).state, LoanState::quiescing);
    pass(1);
    EXPECT_EQ(loan(id).state, LoanState::detaching);
    recover();
    EXPECT_EQ(loan(id).state, LoanState::returned);
    EXPECT_THAT(loan(id).reason, HasSubstr("did not let go"));
    EXPECT_EQ(device().state, DeviceState::available);
}

TEST_F(PoolTest, AReclaimCutsFirst) {
    const auto id = lend_to("a");
    ASSERT_TRUE(pool->reclaim({"80000", "maintenance", owner("admin")}, now));
    keep();
    EXPECT_EQ(loan(id).state, LoanState::detaching);
    ASSERT_EQ(sent.size(), 2u);
    EXPECT_EQ(sent[0].step.kind, StepKind::cut);
    EXPECT_GT(sent[0].step.epoch, loan(id).epoch);
    EXPECT_EQ(sent[1].step.kind, StepKind::detach);
    recover(); // without waiting for the borrower
    EXPECT_EQ(loan(id).state, LoanState::returned);
    EXPECT_EQ(loan(id).reason, "reclaimed by admin: maintenance");
    EXPECT_EQ(device().state, DeviceState::available);
}

TEST_F(PoolTest, ASecondReturnOrReclaimJoinsTheFirst) {
    const auto id = lend_to("a");
    ASSERT_TRUE(pool->give_back({"80000", owner("user"), 0}, now));
    EXPECT_EQ(*pool->give_back({"80000", owner("user"), 0}, now), id);
    keep();
    EXPECT_EQ(sent.size(), 1u);
    EXPECT_EQ(*pool->reclaim({"80000", "", owner("admin")}, now),
              id); // does not wait for the guest any longer
    keep();
    EXPECT_EQ(*pool->reclaim({"80000", "", owner("admin")}, now), id);
    keep();
    EXPECT_EQ(loan(id).state, LoanState::detaching);
    recover();
    EXPECT_EQ(loan(id).state, LoanState::returned);
    EXPECT_EQ(pool->give_back({"loan:1", owner("user"), 0}, now).error().code(), Errc::failed_precondition);
    EXPECT_EQ(pool->give_back({"80000", owner("user"), 0}, now).error().code(), Errc::failed_precondition);
}

TEST_F(PoolTest, AReturnBeforeItIsActiveCancelsIt) {
    const auto id = borrow("a");
    ASSERT_TRUE(pool->give_back({"80000", owner("user"), 0}, now));
    keep();
    answer(take(StepKind::prepare)); // late: the step is no more
    recover();
    EXPECT_EQ(loan(*id).state, LoanState::returned);
    EXPECT_TRUE(sent.empty());
}

TEST_F(PoolTest, AGuestThatDiesLosesTheDevice) {
    const auto id = lend_to("a");
    lost("a", id, false, "the guest was killed");
    EXPECT_EQ(loan(id).state, LoanState::detaching);
    recover();
    EXPECT_EQ(loan(id).state, LoanState::failed);
    EXPECT_THAT(loan(id).reason, HasSubstr("the guest was killed"));
    EXPECT_EQ(device().state, DeviceState::available);
    lost("a", id); // late
    EXPECT_EQ(device().state, DeviceState::available);
}

TEST_F(PoolTest, OnlyTheTwoHostsOfALoanCanLoseIt) {
    const auto id = lend_to("a");
    lost("b", id);
    lost("a", id, true);
    lost("store", id, false);
    EXPECT_EQ(loan(id).state, LoanState::active);
    pool->lost("a", {id, loan(id).epoch.next(), false, ""}, now);
    EXPECT_EQ(loan(id).state, LoanState::active);
    lost("store", id, true);
    EXPECT_EQ(loan(id).state, LoanState::detaching);
}

TEST_F(PoolTest, AFailedRecoveryQuarantines) {
    for (const StepKind bad : {StepKind::cut, StepKind::reset, StepKind::sanitize}) {
        const auto id = lend_to("a");
        ASSERT_TRUE(pool->reclaim({"80000", "", owner("admin")}, now));
        keep();
        done(StepKind::detach);
        for (const StepKind kind : {StepKind::cut, StepKind::reset, StepKind::sanitize}) {
            if (kind != bad) {
                done(kind);
                continue;
            }
            failed(kind, "it does not come back");
            break;
        }
        EXPECT_EQ(device().state, DeviceState::quarantined) << name(bad);
        EXPECT_THAT(device().reason, HasSubstr("it does not come back"));
        EXPECT_EQ(loan(id).state, LoanState::failed);
        const auto refused = borrow("b");
        EXPECT_THAT(refused.error().message(), HasSubstr("`lanepool restore 80000`"));
        // A Hello that calls it clean does not bring it back, a reset that verifies does.
        ASSERT_TRUE(say(lender()));
        EXPECT_EQ(device().state, DeviceState::quarantined);
        ASSERT_TRUE(pool->reset({"80000", owner("admin")}, now));
        keep();
        recover();
        EXPECT_EQ(device().state, DeviceState::available);
    }
}

TEST_F(PoolTest, ARecoveryThatPassesItsDeadlineQuarantines) {
    lend_to("a");
    ASSERT_TRUE(pool->reclaim({"80000", "", owner("admin")}, now));
    keep();
    done(StepKind::cut);
    pass(options.reset_ms + options.margin_ms);
    EXPECT_EQ(device().state, DeviceState::quarantined);
    EXPECT_THAT(device().reason, HasSubstr("has not answered within 72000 ms"));
    done(StepKind::reset); // too late
    EXPECT_EQ(device().state, DeviceState::quarantined);
}

TEST_F(PoolTest, ResetIsRefusedWhileItIsLent) {
    lend_to("a");
    EXPECT_EQ(pool->reset({"80000", owner("admin")}, now).error().code(), Errc::busy);
    disconnect("store");
    EXPECT_EQ(pool->reset({"80001", owner("admin")}, now).error().code(), Errc::unavailable);
}

TEST_F(PoolTest, AnAvailableDeviceCanBeReset) {
    ASSERT_TRUE(pool->reset({"80000", owner("admin")}, now));
    ASSERT_TRUE(pool->reset({"80000", owner("admin")}, now)); // joins
    keep();
    EXPECT_EQ(device().state, DeviceState::recovering);
    EXPECT_EQ(borrow("a").error().code(), Errc::busy);
    EXPECT_EQ(sent.size(), 1u);
    EXPECT_FALSE(sent[0].step.loan);
    recover();
    EXPECT_EQ(device().state, DeviceState::available);
}

TEST_F(PoolTest, ReassignsInOneRequest) {
    const auto first = lend_to("a");
    const auto second = pool->reassign({"80000", "b", "", owner("user"), false}, now);
    ASSERT_TRUE(second);
    keep();
    EXPECT_EQ(loan(*second).state, LoanState::queued);
    EXPECT_EQ(borrow("c").error().code(), Errc::busy);
    EXPECT_EQ(pool->reassign({"80000", "c", "", owner("user"), false}, now).error().code(), Errc::busy);
    done(StepKind::detach);
    recover();
    EXPECT_EQ(loan(first).state, LoanState::returned);
    EXPECT_EQ(loan(*second).state, LoanState::preparing);
    EXPECT_EQ(device().loan, *second);
    done(StepKind::prepare);
    done(StepKind::attach);
    EXPECT_EQ(loan(*second).state, LoanState::active);
    EXPECT_EQ(device().state, DeviceState::lent);
}

TEST_F(PoolTest, AForcedReassignmentCutsFirst) {
    lend_to("a");
    ASSERT_TRUE(pool->reassign({"80000", "b", "", owner("user"), true}, now));
    keep();
    EXPECT_EQ(sent[0].step.kind, StepKind::cut);
}

TEST_F(PoolTest, AReassignmentThatFailsLeavesTheDeviceInThePool) {
    lend_to("a");
    const auto second = pool->reassign({"80000", "b", "", owner("user"), false}, now);
    keep();
    done(StepKind::detach);
    disconnect("b");
    recover();
    EXPECT_EQ(loan(*second).state, LoanState::failed);
    EXPECT_THAT(loan(*second).reason, HasSubstr("host b is down"));
    EXPECT_EQ(device().state, DeviceState::available);
    EXPECT_FALSE(device().successor);
}

TEST_F(PoolTest, AReassignmentCanBeCancelledWhileItWaits) {
    const auto first = lend_to("a");
    const auto second = pool->reassign({"80000", "b", "", owner("user"), false}, now);
    keep();
    ASSERT_TRUE(pool->give_back({"loan:2", owner("user"), 0}, now));
    keep();
    EXPECT_EQ(loan(*second).state, LoanState::returned);
    done(StepKind::detach);
    recover();
    EXPECT_EQ(loan(first).state, LoanState::returned);
    EXPECT_EQ(device().state, DeviceState::available);
}

TEST_F(PoolTest, AReassignmentFailsWithAQuarantinedDevice) {
    lend_to("a");
    const auto second = pool->reassign({"80000", "b", "", owner("user"), true}, now);
    keep();
    failed(StepKind::cut, "no");
    EXPECT_EQ(loan(*second).state, LoanState::failed);
    EXPECT_FALSE(device().successor);
}

TEST_F(PoolTest, RefusesAReassignmentThatCannotBe) {
    EXPECT_EQ(pool->reassign({"80000", "b", "", owner("u"), false}, now).error().code(),
              Errc::failed_precondition);
    lend_to("a");
    EXPECT_EQ(pool->reassign({"80000", "a", "", owner("u"), false}, now).error().code(),
              Errc::already_exists);
    EXPECT_EQ(pool->reassign({"80000", "nobody", "", owner("u"), false}, now).error().code(),
              Errc::not_found);
    EXPECT_EQ(device().state, DeviceState::lent);
}

TEST_F(PoolTest, ALoanThatIsDueIsReturned) {
    const auto id = lend_to("a", "80000", 60);
    EXPECT_EQ(pool->next_tick_steady_us(), now.steady_us + 60'000'000);
    pass(59'999);
    EXPECT_EQ(loan(id).state, LoanState::active);
    pass(1);
    EXPECT_EQ(loan(id).state, LoanState::quiescing);
    EXPECT_EQ(disk.trail.back().actor, "controller");
    EXPECT_EQ(loan(id).reason, "its due time has passed");
}

TEST_F(PoolTest, ALoansTimeCountsFromItsActivation) {
    const auto id = borrow("a", "80000", 60);
    EXPECT_EQ(loan(*id).due_us, 0);
    pass(5000);
    done(StepKind::prepare);
    done(StepKind::attach);
    EXPECT_EQ(loan(*id).active_us, now.unix_us);
    EXPECT_EQ(loan(*id).due_us, now.unix_us + 60'000'000);
    pass(59'999);
    EXPECT_EQ(loan(*id).state, LoanState::active);
    pass(1);
    EXPECT_EQ(loan(*id).state, LoanState::quiescing);
}

TEST_F(PoolTest, LimitsTheNumberOfLoans) {
    options.live_loans = 1;
    restart();
    connect_all();
    lend_to("a", "80000");
    EXPECT_EQ(borrow("b", "80001").error().code(), Errc::no_space);
}

TEST_F(PoolTest, ForgetsTheOldestEndedLoans) {
    options.ended_loans_kept = 2;
    restart();
    connect_all();
    for (int i = 0; i < 4; ++i) {
        lend_to("a");
        ASSERT_TRUE(pool->reclaim({"80000", "", owner("x")}, now));
        keep();
        recover();
        sent.clear();
    }
    EXPECT_EQ(pool->ledger().loans.size(), 2u);
    EXPECT_EQ(disk.snapshot().loans.size(), 2u);
    EXPECT_EQ(pool->find_loan("loan:1").error().code(), Errc::not_found);
    EXPECT_TRUE(pool->find_loan("loan:4"));
}

// The longest loan has the lowest number, and whoever waits for its end has to see it.
TEST_F(PoolTest, ALongLoanIsNotForgottenAsSoonAsItEnds) {
    options.ended_loans_kept = 2;
    restart();
    connect_all();
    const auto longest = lend_to("b", "80001");
    const auto return_and_recover = [&](const std::string& device) {
        ASSERT_TRUE(pool->reclaim({device, "", owner("x")}, now));
        keep();
        recover();
        sent.clear();
    };
    for (int i = 0; i < 3; ++i) {
        lend_to("a");
        return_and_recover("80000");
    }
    // Not even where the clock was set back meanwhile.
    now.unix_us -= 3'600'000'000;
    return_and_recover("80001");
    EXPECT_TRUE(pool->find_loan(fmt::format("loan:{}", longest)));
    EXPECT_TRUE(pool->find_loan("loan:4"));
    EXPECT_FALSE(pool->find_loan("loan:3"));
    // The order is in the records: a restart does not change who is next.
    restart();
    connect_all();
    lend_to("a");
    return_and_recover("80000");
    EXPECT_TRUE(pool->find_loan(fmt::format("loan:{}", longest)));
    EXPECT_FALSE(pool->find_loan("loan:4"));
}

TEST_F(PoolTest, WhatIsNotStoredHasNotHappened) {
    const auto before = device();
    ASSERT_TRUE(pool->borrow(request("a", "80000", 0, ""), now));
    pool->rollback();
    EXPECT_EQ(device(), before);
    EXPECT_EQ(pool->ledger().loans.size(), 0u);
    EXPECT_TRUE(pool->outcome()->empty());
    EXPECT_EQ(pool->next_tick_steady_us(), std::nullopt);
    const auto id = borrow("b");
    ASSERT_TRUE(id);
    EXPECT_EQ(*id, LoanId{1}); // the number was not used up
    EXPECT_EQ(device().epoch, Epoch{1});
}

TEST_F(PoolTest, TextsOfAgentsAreLimited) {
    const auto id = borrow("a");
    failed(StepKind::prepare, std::string(100'000, 'x') + "\n");
    EXPECT_LE(loan(*id).reason.size(), longest_text);
    for (const auto& entry : disk.trail)
        EXPECT_LE(entry.reason.size(), longest_text);
}

} // namespace
} // namespace lanepool::pool
