// SPDX-License-Identifier: Apache-2.0
//
// What users of today's systems complain about, where the agent is what prevents it.
#include "agent/fence_bench.h"

#include <gmock/gmock.h>

namespace lanepool::agent {
namespace {

using pool::StepKind;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class FieldComplaint : public testing::FenceBench {};

// A force-delete frees a device in the records while its user goes on: the next one must not get in.
TEST_F(FieldComplaint, 1_SecondPrepareIsRefusedAtTheDevicesOwnHost) {
    lent();
    prepare(8, 6);
    EXPECT_EQ(answer(), "busy");
    EXPECT_THAT(did, IsEmpty());
    EXPECT_EQ(fence->openings().at(0).loan, pool::LoanId{7});
}

// After a reboot the set-up is gone while the record says that it is ready.
TEST_F(FieldComplaint, 3_AfterARebootTheRecordSaysWhatIsReallyThere) {
    lent();
    start();
    EXPECT_EQ(fence->observed().loan, pool::LoanId{});
    EXPECT_FALSE(fence->observed().answering);
    reach();
    EXPECT_EQ(fence->observed().loan, pool::LoanId{});
    EXPECT_TRUE(fence->observed().answering);
    EXPECT_FALSE(fence->observed().clean);
    EXPECT_EQ(fence->observed().epoch, pool::Epoch{5});
    prepare(7, 5);
    EXPECT_EQ(answer(), "stale_epoch");
    prepare(8, 6);
    EXPECT_EQ(answer(), "failed_precondition");
}

// The lender was rebooted while a loan was active: afterwards its own driver has the device, and the record
// says that it is lent.
TEST_F(FieldComplaint, 3_AfterARebootOfItsHostADeviceIsTheHostsAndNobodysLoan) {
    pooled_of_host();
    prepare(7, 5);
    done("open");
    start();
    fence->local(now_us);
    EXPECT_TRUE(fence->observed().local);
    EXPECT_EQ(fence->observed().loan, pool::LoanId{});
    EXPECT_FALSE(fence->observed().clean);
    EXPECT_EQ(fence->observed().epoch, pool::Epoch{5});
    prepare(7, 5);
    EXPECT_EQ(answer(), "failed_precondition");
    ask(StepKind::take, 4); // of before
    EXPECT_EQ(answer(), "stale_epoch");
}

// Only the agent was restarted: the device is still away from its host's driver, and is made new first.
TEST_F(FieldComplaint, 3_AfterARestartOfTheAgentATakenDeviceIsResetFirst) {
    pooled_of_host();
    prepare(7, 5);
    done("open");
    start();
    fence->present(false);
    ask(StepKind::take, 6);
    EXPECT_EQ(answer(), "ok");
    done("reset");
    prepare(8, 7);
    EXPECT_EQ(answer(), "failed_precondition");
    EXPECT_FALSE(fence->observed().local);
}

// What is unbound while somebody holds it blocks for ever: who holds it is looked at first.
TEST_F(FieldComplaint, 5_ADeviceThatIsHeldIsNotTouched) {
    lent();
    for (const StepKind kind : {StepKind::reset, StepKind::sanitize}) {
        ask(kind, 6, 7);
        EXPECT_EQ(answer(), "failed_precondition");
    }
    prepare(8, 6);
    EXPECT_EQ(answer(), "busy");
    EXPECT_THAT(answers.back().result.error().message(), HasSubstr("lent to partition 2 by loan 7"));
    EXPECT_THAT(did, IsEmpty());
    EXPECT_EQ(fence->state(), LenderFence::State::open);
}

// ... and a device that blocks in the middle blocks nobody for ever: each step is answered in time.
TEST_F(FieldComplaint, 5_StepsForADeviceThatBlocksAreAnsweredInTime) {
    lent();
    ask(StepKind::cut, 6, 7);
    done("close");
    ask(StepKind::reset, 6, 7); // does not end
    answers.clear();
    ask(StepKind::sanitize, 6, 7);
    prepare(8, 7);
    pass(8999);
    EXPECT_EQ(answer(), "none");
    pass(1);
    ASSERT_EQ(answers.size(), 2u);
    for (const Answer& late : answers) {
        EXPECT_EQ(late.result.error().code(), Errc::unavailable);
        EXPECT_THAT(late.result.error().message(), HasSubstr("device nvme0 is resetting"));
    }
    EXPECT_TRUE(fence->openings().empty());
    EXPECT_FALSE(disk.clean);
}

// An unbind that blocks: whoever waits hears of it in time, and the device is its host's until it ends.
TEST_F(FieldComplaint, 5_AnUnbindThatBlocksIsReportedInTime) {
    own_host = true;
    start();
    fence->local(now_us);
    ask(StepKind::take, 4);
    const uint64_t late = operations.front().number;
    done("take", fail(Errc::timeout, "the driver does not let go"));
    EXPECT_EQ(answer(), "timeout");
    fence->finished(late, {}, now_us);
    EXPECT_TRUE(fence->observed().local);
    EXPECT_EQ(fence->state(), LenderFence::State::local);
}

// A reset says that it has worked, and has not: the verification fails, and with it the device.
TEST_F(FieldComplaint, 6_AResetThatLiesIsFoundByItsVerification) {
    lent();
    ask(StepKind::cut, 6, 7);
    done("close");
    ask(StepKind::reset, 6, 7);
    done("reset", fail(Errc::io, "after its reset the device still has bus master on"));
    EXPECT_EQ(answer(), "io");
    EXPECT_FALSE(fence->observed().answering);
    EXPECT_EQ(disk.problem, "after its reset the device still has bus master on");
    ask(StepKind::sanitize, 6, 7);
    EXPECT_EQ(answer(), "failed_precondition");
    prepare(8, 7);
    EXPECT_EQ(answer(), "failed_precondition");
    EXPECT_FALSE(disk.clean);
}

// A reset of the last loan arrives when the device has its next user.
TEST_F(FieldComplaint, 8_ALateResetOfAnOldEpochDoesNotHitTheNextLoan) {
    lent();
    ask(StepKind::cut, 6, 7);
    done("close");
    ask(StepKind::reset, 6, 7);
    const auto late = last;
    done("reset");
    ask(StepKind::sanitize, 6, 7);
    done("sanitize");
    prepare(8, 7);
    done("open");
    did.clear();
    repeat(late);
    EXPECT_EQ(answer(), "stale_epoch");
    EXPECT_THAT(did, IsEmpty());
    EXPECT_EQ(fence->openings().at(0).loan, pool::LoanId{8});
}

// The next tenant finds what the last one left: no wipe, one that failed, one of another drive.
TEST_F(FieldComplaint, 11_NobodyIsLetInBeforeTheWipeHasVerified) {
    lent();
    ask(StepKind::cut, 6, 7);
    done("close");
    ask(StepKind::reset, 6, 7);
    done("reset");
    prepare(8, 7);
    EXPECT_EQ(answer(), "failed_precondition");
    ask(StepKind::sanitize, 6, 7);
    done("sanitize", fail(Errc::io, "block 7 still has data in it"));
    EXPECT_FALSE(disk.clean);
    prepare(8, 7);
    EXPECT_EQ(answer(), "failed_precondition");
    // A restart and a good reset alone do not make it clean.
    start();
    reach();
    prepare(8, 7);
    EXPECT_EQ(answer(), "failed_precondition");
    EXPECT_TRUE(fence->openings().empty());
}

TEST_F(FieldComplaint, 11_AnExchangedDriveIsNotCleanBecauseTheLastOneWas) {
    pooled();
    ASSERT_TRUE(fence->observed().clean);
    fence->absent("pulled");
    fence->exchanged({});
    reach();
    EXPECT_FALSE(fence->observed().clean);
    prepare(8, 7);
    EXPECT_EQ(answer(), "failed_precondition");
}

} // namespace
} // namespace lanepool::agent
