// SPDX-License-Identifier: Apache-2.0
#include "agent/fence_bench.h"

#include <gmock/gmock.h>

namespace lanepool::agent {
namespace {

using pool::StepKind;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class Fence : public testing::FenceBench {};

TEST_F(Fence, ResetsADeviceBeforeAnythingElse) {
    fence->present(false);
    EXPECT_THAT(did, ElementsAre("reset"));
    EXPECT_FALSE(fence->observed().answering);
    done("reset");
    EXPECT_TRUE(fence->observed().answering);
    EXPECT_FALSE(fence->observed().clean);
}

TEST_F(Fence, ClosesWhatAnEarlierRunLeftOpen) {
    fence->present(true);
    EXPECT_THAT(did, ElementsAre("close"));
    done("close");
    EXPECT_THAT(did, ElementsAre("close", "reset"));
}

TEST_F(Fence, WritesDownThatADeviceIsUncleanBeforeItIsOpened) {
    pooled();
    prepare(7, 5);
    EXPECT_THAT(did, ElementsAre("store 5 unclean", "open 7"));
    EXPECT_EQ(answer(), "none");
    done("open");
    EXPECT_EQ(answer(), "ok");
    EXPECT_EQ(fence->observed().loan, pool::LoanId{7});
}

TEST_F(Fence, OpensNothingThatItCannotWriteDown) {
    pooled();
    disk_fails = true;
    prepare(7, 5);
    EXPECT_EQ(answer(), "no_space");
    EXPECT_THAT(did, IsEmpty());
    EXPECT_EQ(fence->state(), LenderFence::State::ready);
    EXPECT_TRUE(fence->observed().clean);
}

TEST_F(Fence, RefusesAnOlderEpoch) {
    pooled();
    for (const StepKind kind : {StepKind::prepare, StepKind::cut, StepKind::reset, StepKind::sanitize}) {
        ask(kind, 3, 7);
        EXPECT_EQ(answer(), "stale_epoch") << pool::name(kind);
    }
    EXPECT_THAT(did, IsEmpty());
}

TEST_F(Fence, RefusesALoanAtTheEpochOfTheLastCut) {
    pooled();
    prepare(7, 4);
    EXPECT_EQ(answer(), "stale_epoch");
}

TEST_F(Fence, RefusesAnUncleanDevice) {
    reach();
    prepare(7, 1);
    EXPECT_EQ(answer(), "failed_precondition");
    EXPECT_TRUE(fence->openings().empty());
}

TEST_F(Fence, TakesTheSamePrepareTwice) {
    pooled();
    prepare(7, 5);
    repeat(last);
    EXPECT_EQ(operations.size(), 1u);
    done("open");
    EXPECT_EQ(answers.size(), 2u);
    repeat(last);
    EXPECT_EQ(answer(), "ok");
    EXPECT_THAT(operations, IsEmpty());
}

TEST_F(Fence, DoesNotOpenALoanAgainThatWasCut) {
    lent();
    const auto before = last;
    ask(StepKind::cut, 6, 7);
    done("close");
    repeat(before);
    EXPECT_EQ(answer(), "stale_epoch");
    EXPECT_TRUE(fence->openings().empty());
}

TEST_F(Fence, CutsWithoutAskingAnybody) {
    lent();
    ask(StepKind::cut, 6, 7);
    EXPECT_THAT(did, ElementsAre("store 6 unclean", "close"));
    EXPECT_EQ(answer(), "none");
    done("close");
    EXPECT_EQ(answer(), "ok");
    EXPECT_THAT(losses, IsEmpty());
}

TEST_F(Fence, CutsAlsoWhatItCannotWriteDown) {
    lent();
    disk_fails = true;
    ask(StepKind::cut, 6, 7);
    EXPECT_THAT(did, ElementsAre("close"));
    done("close");
    EXPECT_EQ(answer(), "io");
    EXPECT_EQ(fence->observed().epoch, pool::Epoch{6});
}

TEST_F(Fence, CutsALoanThatIsBeingOpened) {
    pooled();
    prepare(7, 5);
    const uint64_t late = operations.front().number;
    ask(StepKind::cut, 6, 7);
    EXPECT_EQ(answer(), "cancelled");
    fence->finished(late, {}, now_us);
    EXPECT_EQ(fence->state(), LenderFence::State::closing);
    done("close");
    EXPECT_EQ(answer(), "ok");
}

TEST_F(Fence, CutsADeviceThatIsNotThere) {
    ask(StepKind::cut, 6);
    EXPECT_EQ(answer(), "ok");
    EXPECT_EQ(disk.epoch, 6u);
}

TEST_F(Fence, AnswersEveryCutThatWaitsForTheSameClosing) {
    lent();
    ask(StepKind::cut, 6, 7);
    ask(StepKind::cut, 7, 7);
    EXPECT_EQ(operations.size(), 1u);
    done("close");
    EXPECT_EQ(answers.size(), 2u);
    EXPECT_EQ(disk.epoch, 7u);
}

TEST_F(Fence, IsNotCleanBeforeTheSanitizeHasVerified) {
    lent();
    ask(StepKind::cut, 6, 7);
    done("close");
    ask(StepKind::reset, 6, 7);
    done("reset");
    EXPECT_FALSE(disk.clean);
    ask(StepKind::sanitize, 6, 7);
    EXPECT_FALSE(disk.clean);
    done("sanitize");
    EXPECT_TRUE(disk.clean);
}

TEST_F(Fence, IsCleanAfterAResetThatSuffices) {
    lent();
    ask(StepKind::cut, 6, 7);
    done("close");
    ask(StepKind::reset, 6, 7, 0, true);
    EXPECT_FALSE(disk.clean);
    done("reset");
    EXPECT_TRUE(disk.clean);
}

TEST_F(Fence, IsNotCleanWhereThatCouldNotBeWrittenDown) {
    lent();
    ask(StepKind::cut, 6, 7);
    done("close");
    ask(StepKind::reset, 6, 7);
    done("reset");
    ask(StepKind::sanitize, 6, 7);
    disk_fails = true;
    done("sanitize");
    EXPECT_EQ(answer(), "no_space");
    EXPECT_FALSE(fence->observed().clean);
}

TEST_F(Fence, WillNotSanitizeWhatHasNotBeenReset) {
    lent();
    ask(StepKind::cut, 6, 7);
    done("close");
    ask(StepKind::sanitize, 6, 7);
    EXPECT_EQ(answer(), "failed_precondition");
}

TEST_F(Fence, WillNotResetUnderALoan) {
    lent();
    ask(StepKind::reset, 6, 7);
    EXPECT_EQ(answer(), "failed_precondition");
    ask(StepKind::sanitize, 6, 7);
    EXPECT_EQ(answer(), "failed_precondition");
    EXPECT_THAT(did, IsEmpty());
}

TEST_F(Fence, DoesNotDoAResetAgainThatIsDone) {
    pooled();
    const auto id = ask(StepKind::reset, 4);
    done("reset");
    EXPECT_EQ(answers.back().step, id);
    repeat(last);
    EXPECT_EQ(answer(), "ok");
    EXPECT_THAT(operations, IsEmpty());
}

TEST_F(Fence, DoesNotDoASanitizeAgainThatIsDone) {
    reach();
    recover(4);
    repeat(last);
    EXPECT_EQ(answer(), "ok");
    EXPECT_THAT(operations, IsEmpty());
    EXPECT_TRUE(disk.clean);
}

TEST_F(Fence, WillNotCallADeviceCleanForAStepThatACutHasOvertaken) {
    pooled();
    ask(StepKind::cut, 5);
    ask(StepKind::reset, 5);
    done("reset");
    ask(StepKind::sanitize, 5);
    ask(StepKind::cut, 6);
    EXPECT_EQ(answer(), "ok");
    done("sanitize");
    EXPECT_EQ(answer(), "stale_epoch");
    EXPECT_FALSE(disk.clean);
}

TEST_F(Fence, LetsAFailedResetBeTriedAgain) {
    pooled();
    ask(StepKind::cut, 5);
    ask(StepKind::reset, 5);
    done("reset", fail(Errc::io, "bus master is on"));
    EXPECT_EQ(answer(), "io");
    EXPECT_FALSE(fence->observed().answering);
    EXPECT_EQ(disk.problem, "bus master is on");
    ask(StepKind::reset, 5);
    done("reset");
    EXPECT_TRUE(fence->observed().answering);
}

TEST_F(Fence, TriesABrokenDeviceAgainUntilItsResetWorks) {
    fence->present(false);
    done("reset", fail(Errc::io, "it is not back"));
    EXPECT_FALSE(fence->observed().answering);
    pass(4999);
    EXPECT_THAT(operations, IsEmpty());
    pass(1);
    done("reset");
    EXPECT_TRUE(fence->observed().answering);
    EXPECT_EQ(fence->next_tick_us(), std::nullopt);
}

TEST_F(Fence, ClosesALoanWhoseLeaseHasRunOut) {
    lent(2000);
    EXPECT_EQ(fence->next_tick_us(), now_us + 2'000'000);
    pass(1999);
    EXPECT_THAT(did, IsEmpty());
    pass(1);
    EXPECT_THAT(did, ElementsAre("close", "lost 7"));
    done("close");
    EXPECT_TRUE(fence->openings().empty());
    EXPECT_FALSE(disk.clean);
}

TEST_F(Fence, DoesNotReopenWhatItHasFencedItself) {
    lent(2000);
    const auto before = last;
    pass(2000);
    done("close");
    repeat(before);
    EXPECT_EQ(answer(), "stale_epoch");
}

TEST_F(Fence, GoesOnWithALoanWhoseLeaseIsExtended) {
    lent(2000);
    pass(1500);
    ask(StepKind::extend, 5, 7, 2000);
    EXPECT_EQ(answer(), "ok");
    pass(1999);
    EXPECT_EQ(fence->state(), LenderFence::State::open);
    pass(1);
    EXPECT_EQ(fence->state(), LenderFence::State::closing);
}

TEST_F(Fence, IgnoresAnExtensionThatALaterOneHasOvertaken) {
    lent(2000);
    ask(StepKind::extend, 5, 7, 60'000);
    const auto overtaken = last;
    ask(StepKind::extend, 5, 7, 1000);
    repeat(overtaken);
    pass(1000);
    EXPECT_EQ(fence->state(), LenderFence::State::closing);
}

TEST_F(Fence, ExtendsOnlyTheLoanThatIsOpen) {
    lent(2000);
    ask(StepKind::extend, 5, 8, 60'000);
    EXPECT_EQ(answer(), "failed_precondition");
    ask(StepKind::extend, 4, 7, 60'000);
    EXPECT_EQ(answer(), "stale_epoch");
    pass(2000);
    EXPECT_EQ(fence->state(), LenderFence::State::closing);
}

TEST_F(Fence, HasNoEndWithoutALease) {
    lent();
    EXPECT_EQ(fence->next_tick_us(), std::nullopt);
    pass(1'000'000'000);
    EXPECT_EQ(fence->state(), LenderFence::State::open);
}

TEST_F(Fence, ReportsTheLoanOfADeviceThatGoes) {
    lent();
    fence->absent("the device has stopped answering");
    EXPECT_THAT(losses, ElementsAre(Opening{{7}, {5}, 2}));
    EXPECT_FALSE(fence->observed().answering);
    EXPECT_EQ(fence->observed().loan, pool::LoanId{});
}

TEST_F(Fence, TakesAClosingThatADeviceLeavesForDone) {
    lent();
    ask(StepKind::cut, 6, 7);
    fence->absent("pulled");
    EXPECT_EQ(answer(), "ok");
    EXPECT_THAT(losses, IsEmpty());
}

TEST_F(Fence, BeginsAResetAgainThatADeviceLeft) {
    pooled();
    ask(StepKind::cut, 5);
    ask(StepKind::reset, 5);
    answers.clear();
    fence->absent("restarting");
    operations.clear();
    fence->present(false);
    done("reset"); // the one with which it begins
    EXPECT_EQ(answer(), "none");
    done("reset");
    EXPECT_EQ(answer(), "ok");
}

TEST_F(Fence, KnowsNothingOfADeviceThatWasExchanged) {
    lent(2000);
    fence->absent("pulled");
    ask(StepKind::reset, 6, 7);
    fence->exchanged({1, false, ""});
    EXPECT_EQ(answer(), "not_found");
    EXPECT_EQ(fence->observed().epoch, pool::Epoch{1});
    EXPECT_FALSE(fence->observed().clean);
    reach();
    prepare(8, 2);
    EXPECT_EQ(answer(), "failed_precondition");
}

TEST_F(Fence, GivesUpWaitingForADevice) {
    ask(StepKind::reset, 5);
    pass(8999);
    EXPECT_EQ(answer(), "none");
    pass(1);
    EXPECT_EQ(answer(), "unavailable");
}

TEST_F(Fence, IgnoresTheEndOfAnOperationOfADeviceThatHasGone) {
    fence->present(false);
    const uint64_t late = operations.front().number;
    fence->absent("gone");
    fence->present(false);
    fence->finished(late, {}, now_us);
    EXPECT_EQ(fence->state(), LenderFence::State::verifying);
}

TEST_F(Fence, HasALimitForWhatWaits) {
    for (int i = 0; i < 300; ++i)
        ask(StepKind::reset, 5);
    EXPECT_EQ(answer(), "busy");
    EXPECT_EQ(answers.size(), 44u);
}

TEST_F(Fence, AnswersEverythingBeforeItEnds) {
    ask(StepKind::reset, 5);
    fence->stop("the agent is stopping");
    EXPECT_EQ(answer(), "cancelled");
}

} // namespace
} // namespace lanepool::agent
