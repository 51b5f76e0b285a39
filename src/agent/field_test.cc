// SPDX-License-Identifier: Apache-2.0
//
// What users of today's systems complain about, where the agent is what prevents it.
#include "agent/fence_bench.h"

#include <gmock/gmock.h>

namespace lanepool::agent {
namespace {

using pool::StepKind;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class FieldComplaint : public testing::FenceBench {};

// A force-delete frees a device in the records while its user goes on: the next one must not get in.
TEST_F(FieldComplaint, 1_SecondPrepareIsRefusedAtTheDevicesOwnHost) {
    lent();
    prepare(8, 6);
    EXPECT_EQ(answer(), "busy");
    EXPECT_THAT(did, IsEmpty());
    EXPECT_EQ(fence->opening()->loan, pool::LoanId{7});
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
    EXPECT_EQ(fence->opening()->loan, pool::LoanId{8});
}

} // namespace
} // namespace lanepool::agent
