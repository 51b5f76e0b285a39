// SPDX-License-Identifier: Apache-2.0
//
// Devices that their own hosts have until they are taken.
#include "pool/test_bench.h"

#include <gmock/gmock.h>

namespace lanepool::pool {
namespace {

using ::testing::HasSubstr;

class OwnHostTest : public testing::Bench {
  protected:
    // The lender, whose nvme0 is its own.
    static Hello with_local(bool local = true) {
        Hello hello = lender();
        hello.devices[0].local = local;
        hello.devices[0].clean = !local;
        return hello;
    }
    void connect_local() {
        ASSERT_TRUE(say(with_local()));
        for (const char* host : {"a", "b", "c"})
            ASSERT_TRUE(say(borrower(host, static_cast<uint32_t>(host[0] - 'a' + 1))));
        sent.clear();
    }
    Result<Fdid> restore() {
        auto fdid = pool->restore({"80000", owner()}, now);
        keep();
        return fdid;
    }
    Result<Fdid> keep_local() {
        auto fdid = pool->keep_local({"80000", owner()}, now);
        keep();
        return fdid;
    }
    void connect_taken() {
        connect_local();
        ASSERT_TRUE(restore());
        done(StepKind::take);
        recover();
        ASSERT_EQ(device().state, DeviceState::available);
        sent.clear();
    }
    void refuse(const Order& order, const std::string& code, const std::string& message) {
        const Step& step = order.step;
        pool->answered(step.host, {step.id, step.loan, step.epoch, step.kind, false, code, message}, now);
        keep();
    }
    Hello lender_at(Epoch epoch, bool local, bool clean) {
        Hello hello = with_local(local);
        hello.devices[0].epoch = epoch;
        hello.devices[0].clean = clean;
        return hello;
    }
};

TEST_F(OwnHostTest, IsKeptLocalWhenItIsFirstSeen) {
    connect_local();
    EXPECT_EQ(device().state, DeviceState::local);
    EXPECT_TRUE(device().kept_local && device().with_host);
    EXPECT_THAT(device().reason, HasSubstr("its own host has it; `lanepool restore 80000`"));
    EXPECT_EQ(device(0x80001).state, DeviceState::available);
    EXPECT_FALSE(device(0x80001).seen_with_host);
}

TEST_F(OwnHostTest, IsNotLent) {
    connect_local();
    const auto loan = borrow("a");
    ASSERT_FALSE(loan);
    EXPECT_THAT(loan.error().message(), HasSubstr("is for host store's own use"));
}

TEST_F(OwnHostTest, IsTakenBeforeAnythingElseIsDoneWithIt) {
    connect_local();
    ASSERT_TRUE(restore());
    ASSERT_EQ(sent.size(), 1u);
    EXPECT_EQ(device().state, DeviceState::recovering);
    const Order order = take(StepKind::take);
    EXPECT_EQ(order.step.deadline_ms, options.take_ms);
    EXPECT_EQ(order.device, "nvme0");
    EXPECT_TRUE(device().with_host);
    answer(order);
    EXPECT_FALSE(device().with_host);
    recover();
    EXPECT_EQ(device().state, DeviceState::available);
    EXPECT_TRUE(sent.empty());
}

TEST_F(OwnHostTest, StaysWhereItIsWhenItCannotBeTaken) {
    connect_local();
    ASSERT_TRUE(restore());
    refuse(take(StepKind::take), "busy", "/dev/nvme0n1 is mounted on /data");
    EXPECT_EQ(device().state, DeviceState::local);
    EXPECT_EQ(device().reason, "take failed: /dev/nvme0n1 is mounted on /data [busy]");
    EXPECT_EQ(code_of(device().reason), Errc::busy);
    EXPECT_TRUE(device().kept_local && device().with_host);
    EXPECT_TRUE(sent.empty());
    // Also after the next Hello, until its agent was away.
    ASSERT_TRUE(say(with_local(), false));
    EXPECT_THAT(device().reason, HasSubstr("mounted"));
    disconnect("store");
    ASSERT_TRUE(say(lender_at(device().epoch, true, false)));
    EXPECT_EQ(device().state, DeviceState::local);
    EXPECT_THAT(device().reason, HasSubstr("its own host has it"));
}

TEST_F(OwnHostTest, NamesItsUsersHoweverManyThereAre) {
    connect_local();
    ASSERT_TRUE(restore());
    refuse(take(StepKind::take), "busy", std::string(5000, 'x'));
    EXPECT_LE(device().reason.size(), longest_text);
    EXPECT_EQ(code_of(device().reason), Errc::busy);
}

TEST_F(OwnHostTest, CanBeRestoredAgainAfterATakeThatFailed) {
    connect_local();
    ASSERT_TRUE(restore());
    refuse(take(StepKind::take), "busy", "in use");
    ASSERT_TRUE(restore());
    done(StepKind::take);
    recover();
    EXPECT_EQ(device().state, DeviceState::available);
}

TEST_F(OwnHostTest, StaysWhereItIsWhenTheTakeIsLate) {
    connect_local();
    ASSERT_TRUE(restore());
    pass(options.take_ms + options.margin_ms + 1);
    EXPECT_EQ(device().state, DeviceState::local);
    EXPECT_THAT(device().reason, HasSubstr("take failed: host store has not answered"));
}

// It is not erased: nothing has been done with it since it was its host's.
TEST_F(OwnHostTest, GoesBackWhenATakeThatWasGivenUpHasWorkedAfterAll) {
    connect_local();
    ASSERT_TRUE(restore());
    const Order late = take(StepKind::take);
    pass(options.take_ms + options.margin_ms + 1);
    answer(late);
    EXPECT_EQ(device().state, DeviceState::local);
    ASSERT_TRUE(say(lender_at(late.step.epoch, false, false), false));
    EXPECT_EQ(device().state, DeviceState::recovering);
    ASSERT_EQ(sent.size(), 1u);
    const Order order = take(StepKind::give_back);
    EXPECT_GT(order.step.epoch, late.step.epoch);
    answer(order);
    EXPECT_EQ(device().state, DeviceState::local);
    EXPECT_TRUE(device().with_host && device().kept_local);
}

TEST_F(OwnHostTest, IsGivenBackWhenItLeavesThePool) {
    connect_taken();
    const Epoch before = device().epoch;
    ASSERT_TRUE(keep_local());
    EXPECT_EQ(device().state, DeviceState::recovering);
    ASSERT_EQ(sent.size(), 1u);
    const Order order = take(StepKind::give_back);
    EXPECT_GT(order.step.epoch, before); // an old take that comes late is refused
    EXPECT_EQ(order.step.deadline_ms, options.give_back_ms);
    answer(order);
    EXPECT_EQ(device().state, DeviceState::local);
    EXPECT_TRUE(device().with_host && device().kept_local && !device().clean);
    ASSERT_TRUE(restore());
    done(StepKind::take);
    recover();
    EXPECT_EQ(device().state, DeviceState::available);
}

TEST_F(OwnHostTest, IsGivenBackAfterALoanThatReturnsItToLocalUse) {
    connect_taken();
    const LoanId id = lend_to("a");
    ASSERT_TRUE(pool->give_back({"80000", owner(), 0, true}, now));
    keep();
    done(StepKind::detach);
    recover();
    EXPECT_EQ(loan(id).state, LoanState::resetting);
    EXPECT_EQ(device().state, DeviceState::recovering);
    done(StepKind::give_back);
    EXPECT_EQ(loan(id).state, LoanState::returned);
    EXPECT_EQ(device().state, DeviceState::local);
    EXPECT_TRUE(device().with_host);
}

TEST_F(OwnHostTest, IsQuarantinedWhenItCannotBeGivenBack) {
    connect_taken();
    const LoanId id = lend_to("a");
    ASSERT_TRUE(pool->give_back({"80000", owner(), 0, true}, now));
    keep();
    done(StepKind::detach);
    recover();
    failed(StepKind::give_back, "no driver");
    EXPECT_EQ(device().state, DeviceState::quarantined);
    EXPECT_THAT(device().reason, HasSubstr("give-back failed: no driver"));
    EXPECT_EQ(loan(id).state, LoanState::failed);
    EXPECT_THAT(loan(id).reason, HasSubstr("no driver"));
}

TEST_F(OwnHostTest, IsTakenAgainWhenItIsRestoredOnItsWayBack) {
    connect_taken();
    ASSERT_TRUE(keep_local());
    ASSERT_TRUE(restore());
    done(StepKind::give_back);
    EXPECT_EQ(device().state, DeviceState::recovering);
    done(StepKind::take);
    recover();
    EXPECT_EQ(device().state, DeviceState::available);
}

TEST_F(OwnHostTest, IsNotErasedWhenSomebodyThinksBetterOfIt) {
    connect_local();
    ASSERT_TRUE(restore());
    ASSERT_TRUE(keep_local());
    done(StepKind::take);
    ASSERT_EQ(sent.size(), 1u);
    done(StepKind::give_back);
    EXPECT_EQ(device().state, DeviceState::local);
}

TEST_F(OwnHostTest, IsNotReset) {
    connect_local();
    const auto reset = pool->reset({"80000", owner()}, now);
    keep();
    ASSERT_FALSE(reset);
    EXPECT_THAT(reset.error().message(), HasSubstr("is its own host's, and what is on it too"));
    EXPECT_TRUE(sent.empty());
}

// ---- found where it should not be

TEST_F(OwnHostTest, OneOfThePoolThatIsFoundThereIsTakenAgain) {
    connect_taken();
    ASSERT_TRUE(say(lender_at(device().epoch, true, true), false));
    EXPECT_EQ(device().state, DeviceState::recovering);
    EXPECT_THAT(device().reason, HasSubstr("its own host has it again"));
    EXPECT_FALSE(device().clean);
    ASSERT_EQ(sent.size(), 1u);
    done(StepKind::take);
    recover();
    EXPECT_EQ(device().state, DeviceState::available);
}

TEST_F(OwnHostTest, OneOfThePoolThatIsInUseThereIsKeptLocal) {
    connect_taken();
    ASSERT_TRUE(say(lender_at(device().epoch, true, true), false));
    refuse(take(StepKind::take), "busy", "swap is on it");
    EXPECT_EQ(device().state, DeviceState::local);
    EXPECT_TRUE(device().kept_local);
    EXPECT_THAT(device().reason, HasSubstr("swap is on it"));
}

TEST_F(OwnHostTest, ALoanIsLostWhenItsDeviceIsFoundThere) {
    connect_taken();
    const LoanId id = lend_to("a");
    disconnect("store");
    ASSERT_TRUE(say(lender_at(device().epoch, true, false)));
    EXPECT_EQ(loan(id).state, LoanState::detaching);
    const Order detach = take(StepKind::detach); // the borrower is told
    EXPECT_EQ(detach.step.host, "a");
    done(StepKind::take);
    recover();
    EXPECT_EQ(loan(id).state, LoanState::failed);
    EXPECT_THAT(loan(id).reason, HasSubstr("its own host has it again"));
    EXPECT_EQ(device().state, DeviceState::available);
}

TEST_F(OwnHostTest, ALoanIsLostWhenItsDeviceIsInUseThere) {
    connect_taken();
    const LoanId id = lend_to("a");
    disconnect("store");
    ASSERT_TRUE(say(lender_at(device().epoch, true, false)));
    refuse(take(StepKind::take), "busy", "mounted");
    EXPECT_EQ(loan(id).state, LoanState::failed);
    EXPECT_THAT(loan(id).reason, HasSubstr("mounted"));
    EXPECT_EQ(device().state, DeviceState::local);
    EXPECT_FALSE(device().loan);
}

TEST_F(OwnHostTest, ARecoveryBeginsAnewWhenItsDeviceIsFoundThere) {
    connect_taken();
    const LoanId id = lend_to("a");
    ASSERT_TRUE(pool->reclaim({"80000", "", owner()}, now));
    keep();
    done(StepKind::cut);
    const Order reset = take(StepKind::reset);
    sent.clear();
    disconnect("store");
    ASSERT_TRUE(say(lender_at(device().epoch, true, false)));
    answer(reset); // of the recovery that counts no more
    ASSERT_EQ(sent.size(), 1u);
    EXPECT_GT(sent[0].step.epoch, reset.step.epoch);
    done(StepKind::take);
    recover();
    EXPECT_EQ(loan(id).state, LoanState::returned);
    EXPECT_EQ(device().state, DeviceState::available);
}

TEST_F(OwnHostTest, AQuarantinedOneStaysSoAndIsTakenWhenItIsRestored) {
    connect_taken();
    ASSERT_TRUE(pool->quarantine({"80000", "looks odd", owner()}, now));
    keep();
    ASSERT_TRUE(say(lender_at(device().epoch, true, false), false));
    EXPECT_EQ(device().state, DeviceState::quarantined);
    EXPECT_TRUE(sent.empty());
    ASSERT_TRUE(restore());
    done(StepKind::take);
    recover();
    EXPECT_EQ(device().state, DeviceState::available);
}

TEST_F(OwnHostTest, OneThatLeftThePoolWhileItsHostWasAwayIsErasedBeforeItGoesBack) {
    connect_taken();
    lend_to("a");
    disconnect("store");
    pass(options.lender_grace_ms + 1);
    ASSERT_TRUE(keep_local());
    EXPECT_EQ(device().state, DeviceState::offline);
    ASSERT_TRUE(say(lender_at(device().epoch, false, false)));
    recover();
    done(StepKind::give_back);
    EXPECT_EQ(device().state, DeviceState::local);
}

TEST_F(OwnHostTest, OneThatIsKeptLocalIsNotTakenForAnEpochThatNobodyKnows) {
    connect_local();
    ASSERT_TRUE(say(lender_at({77}, true, false), false));
    EXPECT_EQ(device().state, DeviceState::local);
    EXPECT_EQ(device().epoch, Epoch{77});
    EXPECT_TRUE(sent.empty());
}

// ---- somebody dies in the middle

TEST_F(OwnHostTest, ATakeIsAskedForAgainAfterItsAgentWasAway) {
    connect_local();
    ASSERT_TRUE(restore());
    const Order first = take(StepKind::take);
    disconnect("store");
    // It may have worked or not: one that is taken answers at once.
    for (const bool local : {true, false}) {
        ASSERT_TRUE(say(lender_at(first.step.epoch, local, false)));
        EXPECT_EQ(take(StepKind::take).step.id, first.step.id);
        disconnect("store");
    }
    ASSERT_TRUE(say(lender_at(first.step.epoch, false, false)));
    done(StepKind::take);
    recover();
    EXPECT_EQ(device().state, DeviceState::available);
}

TEST_F(OwnHostTest, ARestoreGoesOnWhenItsHostIsBack) {
    connect_local();
    ASSERT_TRUE(restore());
    disconnect("store");
    pass(options.lender_grace_ms + 1);
    EXPECT_EQ(device().state, DeviceState::offline);
    sent.clear();
    ASSERT_TRUE(say(lender_at(device().epoch, true, false)));
    done(StepKind::take);
    recover();
    EXPECT_EQ(device().state, DeviceState::available);
}

TEST_F(OwnHostTest, AGiveBackIsAskedForAgainAfterItsAgentWasAway) {
    connect_taken();
    ASSERT_TRUE(keep_local());
    const Order first = take(StepKind::give_back);
    for (const bool local : {false, true}) {
        disconnect("store");
        ASSERT_TRUE(say(lender_at(first.step.epoch, local, !local)));
        EXPECT_EQ(device().state, DeviceState::recovering);
        EXPECT_EQ(sent.size(), 1u);
        sent.clear();
    }
    answer(first);
    EXPECT_EQ(device().state, DeviceState::local);
}

TEST_F(OwnHostTest, AGiveBackThatNobodySawTheEndOfIsOverWhenItsHostHasIt) {
    connect_taken();
    ASSERT_TRUE(keep_local());
    disconnect("store");
    pass(options.lender_grace_ms + 1);
    sent.clear();
    ASSERT_TRUE(say(lender_at(device().epoch, true, false)));
    EXPECT_EQ(device().state, DeviceState::local);
    EXPECT_TRUE(sent.empty());
}

TEST_F(OwnHostTest, EveryStepSurvivesTheController) {
    connect_local();
    ASSERT_TRUE(restore());
    restart();
    sent.clear();
    ASSERT_TRUE(say(lender_at(device().epoch, true, false)));
    done(StepKind::take);
    recover();
    EXPECT_EQ(device().state, DeviceState::available);
    ASSERT_TRUE(keep_local());
    restart();
    sent.clear();
    ASSERT_TRUE(say(lender_at(device().epoch, false, true)));
    done(StepKind::give_back);
    EXPECT_EQ(device().state, DeviceState::local);
    restart();
    ASSERT_TRUE(say(lender_at(device().epoch, true, false)));
    EXPECT_EQ(device().state, DeviceState::local);
    EXPECT_TRUE(sent.empty());
}

TEST_F(OwnHostTest, TheControllerMayDieWithALoanOnItsWayHome) {
    connect_taken();
    lend_to("a");
    ASSERT_TRUE(pool->give_back({"80000", owner(), 0, true}, now));
    keep();
    done(StepKind::detach);
    recover();
    restart();
    sent.clear();
    ASSERT_TRUE(say(lender_at(device().epoch, false, true)));
    done(StepKind::give_back);
    EXPECT_EQ(device().state, DeviceState::local);
    EXPECT_EQ(pool->ledger().live_loans(), 0u);
}

} // namespace
} // namespace lanepool::pool
