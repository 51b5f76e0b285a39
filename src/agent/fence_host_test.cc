// SPDX-License-Identifier: Apache-2.0
//
// The fence of a device that its own host can use, too.
#include "agent/fence_bench.h"

#include <gmock/gmock.h>

namespace lanepool::agent {
namespace {

using pool::StepKind;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class HostFence : public testing::FenceBench {
  protected:
    HostFence() {
        own_host = true;
        start();
    }
    void local() {
        fence->local(now_us);
        did.clear();
    }
    size_t answered() const { return answers.size(); }
};

TEST_F(HostFence, SaysThatItsHostHasIt) {
    EXPECT_FALSE(fence->observed().local);
    local();
    EXPECT_TRUE(fence->observed().local);
    EXPECT_TRUE(fence->observed().answering);
    EXPECT_EQ(fence->observed().problem, "");
}

// Whatever it was trusted with, its host has had it since.
TEST_F(HostFence, IsNotCleanOnceItsHostHasHadIt) {
    disk = {4, true, {}};
    start();
    fence->local(now_us);
    EXPECT_FALSE(fence->observed().clean);
    EXPECT_EQ(disk, (DeviceRecord{4, false, {}}));
}

TEST_F(HostFence, IsNotCleanOnceItsHostHasHadItAlsoWhenTheDiskIsFull) {
    disk = {4, true, {}};
    start();
    disk_fails = true;
    fence->local(now_us);
    EXPECT_FALSE(fence->observed().clean);
    ask(StepKind::take, 4);
    EXPECT_EQ(answer(), "no_space");
    EXPECT_TRUE(operations.empty());
}

TEST_F(HostFence, RefusesEveryOtherStepWhileItsHostHasIt) {
    local();
    for (const StepKind kind : {StepKind::prepare, StepKind::cut, StepKind::reset, StepKind::sanitize,
                                StepKind::extend, StepKind::expel}) {
        ask(kind, 4, 7);
        EXPECT_EQ(answer(), "failed_precondition") << pool::name(kind);
        EXPECT_THAT(answers.back().result.error().message(), HasSubstr("its own host's"));
    }
    EXPECT_THAT(did, IsEmpty());
}

TEST_F(HostFence, IsTakenThenResetAndSanitizedBeforeAnybodyGetsIt) {
    local();
    ask(StepKind::take, 4);
    EXPECT_THAT(did, ElementsAre("store 4 unclean", "take"));
    EXPECT_EQ(limit_ms, 9000);
    EXPECT_TRUE(fence->observed().local);
    EXPECT_EQ(answer(), "none");
    done("take");
    EXPECT_EQ(answer(), "ok");
    EXPECT_FALSE(fence->observed().local);
    EXPECT_TRUE(fence->observed().answering);
    prepare(7, 5);
    EXPECT_EQ(answer(), "failed_precondition");
    recover(5);
    prepare(7, 6);
    done("open");
    EXPECT_EQ(answer(), "ok");
}

TEST_F(HostFence, StaysItsHostsWhenItCannotBeTaken) {
    local();
    ask(StepKind::take, 4);
    done("take", fail(Errc::busy, "/dev/nvme0n1 is mounted at /srv"));
    EXPECT_EQ(answer(), "busy");
    EXPECT_TRUE(fence->observed().local);
    EXPECT_TRUE(fence->observed().answering);
    // ... and is taken when it can be.
    ask(StepKind::take, 4);
    done("take");
    EXPECT_EQ(answer(), "ok");
}

TEST_F(HostFence, ATakeThatComesTwiceIsDoneOnce) {
    local();
    ask(StepKind::take, 4);
    repeat(last);
    EXPECT_EQ(operations.size(), 1u);
    done("take");
    EXPECT_EQ(answered(), 2u);
    repeat(last);
    EXPECT_EQ(answered(), 3u);
    EXPECT_EQ(answer(), "ok");
    EXPECT_TRUE(operations.empty());
}

TEST_F(HostFence, ATakeWaitsForADeviceThatIsNotThere) {
    ask(StepKind::take, 4);
    EXPECT_EQ(answer(), "none");
    pass(100);
    fence->local(now_us);
    EXPECT_THAT(did, ElementsAre("store 4 unclean", "take"));
    EXPECT_EQ(limit_ms, 8900);
}

TEST_F(HostFence, ATakeOfADeviceThatDoesNotComeIsAnsweredInTime) {
    ask(StepKind::take, 4);
    pass(9000);
    EXPECT_EQ(answer(), "unavailable");
}

TEST_F(HostFence, ADeviceThatGoesWhileItIsTakenEndsTheTake) {
    local();
    ask(StepKind::take, 4);
    const uint64_t late = operations.front().number;
    fence->absent("pulled out");
    EXPECT_EQ(answer(), "unavailable");
    fence->finished(late, {}, now_us); // is of no use to anybody
    EXPECT_EQ(fence->state(), LenderFence::State::absent);
    EXPECT_FALSE(fence->observed().local);
}

TEST_F(HostFence, IsGivenBackAndNotClean) {
    pooled_of_host();
    ASSERT_TRUE(disk.clean);
    ask(StepKind::give_back, 5);
    EXPECT_THAT(did, ElementsAre("store 5 unclean", "give-back"));
    EXPECT_FALSE(fence->observed().local);
    done("give-back");
    EXPECT_EQ(answer(), "ok");
    EXPECT_TRUE(fence->observed().local);
    EXPECT_FALSE(fence->observed().clean);
    repeat(last);
    EXPECT_EQ(answer(), "ok");
    EXPECT_TRUE(operations.empty());
}

TEST_F(HostFence, IsNotGivenBackWhenThatCannotBeWrittenDown) {
    pooled_of_host();
    disk_fails = true;
    ask(StepKind::give_back, 5);
    EXPECT_EQ(answer(), "no_space");
    EXPECT_TRUE(operations.empty());
    EXPECT_EQ(fence->state(), LenderFence::State::ready);
}

TEST_F(HostFence, IsNotGivenBackWhileItIsLent) {
    pooled_of_host();
    prepare(7, 5);
    done("open");
    ask(StepKind::give_back, 6);
    EXPECT_EQ(answer(), "failed_precondition");
    EXPECT_EQ(fence->state(), LenderFence::State::open);
}

TEST_F(HostFence, IsGivenBackOnceItsResetHasEnded) {
    pooled_of_host();
    ask(StepKind::reset, 5);
    ask(StepKind::give_back, 5);
    EXPECT_EQ(operations.size(), 1u);
    done("reset");
    done("give-back");
    EXPECT_EQ(answer(), "ok");
}

TEST_F(HostFence, ABrokenDeviceIsGivenBackToo) {
    pooled_of_host();
    ask(StepKind::reset, 5);
    done("reset", fail(Errc::io, "bus master is on"));
    ask(StepKind::give_back, 5);
    pass(5000); // no reset is tried meanwhile
    done("give-back");
    EXPECT_EQ(answer(), "ok");
    EXPECT_TRUE(fence->observed().answering);
    EXPECT_TRUE(operations.empty());
}

TEST_F(HostFence, OneThatIsNotReachedIsGivenBackToo) {
    fence->absent("it cannot be opened");
    ask(StepKind::give_back, 5);
    done("give-back");
    EXPECT_EQ(answer(), "ok");
    EXPECT_TRUE(fence->observed().local);
}

TEST_F(HostFence, AGiveBackThatFailsLeavesItUnknownWhoHasIt) {
    pooled_of_host();
    ask(StepKind::give_back, 5);
    done("give-back", fail(Errc::io, "nvme does not bind"));
    EXPECT_EQ(answer(), "io");
    EXPECT_EQ(fence->state(), LenderFence::State::absent);
    EXPECT_FALSE(fence->observed().answering);
    EXPECT_EQ(fence->observed().problem, "nvme does not bind");
    // It is looked at again: either way it goes on.
    fence->local(now_us);
    EXPECT_TRUE(fence->observed().local);
    EXPECT_TRUE(fence->observed().answering);
}

TEST_F(HostFence, StepsForOneThatIsBeingGivenBackAreRefusedAfterwards) {
    pooled_of_host();
    ask(StepKind::give_back, 5);
    prepare(8, 6);
    EXPECT_EQ(answer(), "none");
    done("give-back");
    EXPECT_EQ(answer(), "failed_precondition");
}

// The give-back of an earlier life of the device must not hit the next one, nor the take.
TEST_F(HostFence, StepsOfAnOldEpochAreRefused) {
    pooled_of_host();
    ask(StepKind::give_back, 5);
    const auto late_give_back = last;
    done("give-back");
    ask(StepKind::take, 6);
    const auto late_take = last;
    done("take");
    repeat(late_give_back);
    EXPECT_EQ(answer(), "stale_epoch");
    ask(StepKind::give_back, 7);
    done("give-back");
    repeat(late_take);
    EXPECT_EQ(answer(), "stale_epoch");
    EXPECT_TRUE(fence->observed().local);
}

TEST_F(HostFence, FunctionsAreMadeWhileItsHostHasIt) {
    local();
    functions = 4;
    ask(StepKind::set_functions, 4);
    EXPECT_THAT(did, ElementsAre("functions 4"));
    EXPECT_TRUE(fence->observed().local);
    ask(StepKind::take, 4); // waits
    EXPECT_EQ(operations.size(), 1u);
    done("functions");
    EXPECT_EQ(answers.at(0).result.has_value(), true);
    done("take", fail(Errc::busy, "it has 4 SR-IOV functions"));
    EXPECT_EQ(answer(), "busy");
}

TEST_F(HostFence, FunctionsAreNotMadeOfOneThatIsTaken) {
    pooled_of_host();
    functions = 4;
    ask(StepKind::set_functions, 5);
    EXPECT_EQ(answer(), "failed_precondition");
    EXPECT_TRUE(operations.empty());
}

TEST_F(HostFence, FunctionsThatCouldNotBeMadeLeaveItItsHosts) {
    local();
    ask(StepKind::set_functions, 4);
    done("functions", fail(Errc::not_supported, "its driver has no way"));
    EXPECT_EQ(answer(), "not_supported");
    EXPECT_TRUE(fence->observed().local);
}

// Of a device that nobody else could use there is nothing to take, and nobody to give it back to.
TEST_F(HostFence, AModelsDeviceIsTakenAndGivenBackAtOnce) {
    own_host = false;
    start();
    pooled();
    ask(StepKind::take, 5);
    EXPECT_EQ(answer(), "ok");
    ask(StepKind::give_back, 5);
    EXPECT_EQ(answer(), "ok");
    ask(StepKind::set_functions, 5);
    EXPECT_EQ(answer(), "not_supported");
    EXPECT_EQ(fence->state(), LenderFence::State::ready);
    EXPECT_TRUE(disk.clean);
}

} // namespace
} // namespace lanepool::agent
