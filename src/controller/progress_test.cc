// SPDX-License-Identifier: Apache-2.0
//
// What somebody who waits is told where a host's own kernel goes on with what he wants back.
#include "controller/progress.h"

#include "pool/test_bench.h"

#include <gmock/gmock.h>

namespace lanepool::controller {
namespace {

using pool::StepKind;
using ::testing::HasSubstr;

class ProgressTest : public pool::testing::Bench {
  protected:
    ProgressTest() {
        connect_all();
        pool::Hello whole = borrower("w", 4);
        whole.guests.clear();
        whole.dma_modes = {pool::DmaMode::bounce};
        EXPECT_TRUE(say(whole));
        sent.clear();
    }

    void answer_busy() {
        const pool::Step step = take(StepKind::detach).step;
        pool->answered(step.host,
                       {step.id, step.loan, step.epoch, step.kind, false, "busy", "/dev/nvme0n1 is mounted"},
                       now);
        keep();
    }

    Standing of(Goal::Kind kind, pool::LoanId loan) { return standing(*pool, {kind, {loan}, {}, 0}); }
};

TEST_F(ProgressTest, SaysThatTheKernelOfAHostTakesTheDevice) {
    const auto loan = borrow("w");
    ASSERT_TRUE(loan);
    done(StepKind::prepare);
    EXPECT_EQ(of(Goal::Kind::loans_active, *loan).progress.step(), "the kernel of host w takes the device");
}

TEST_F(ProgressTest, AReturnOfWhatIsInUseEndsAsBusy) {
    const auto loan = lend_to("w");
    ASSERT_TRUE(pool->give_back({"80000", owner()}, now));
    keep();
    const auto asked = of(Goal::Kind::loan_over, loan);
    EXPECT_FALSE(asked.over());
    EXPECT_EQ(asked.progress.step(), "the kernel of host w lets go of the device");
    answer_busy();
    const auto standing = of(Goal::Kind::loan_over, loan);
    ASSERT_TRUE(standing.error);
    EXPECT_FALSE(standing.progress.done());
    EXPECT_EQ(standing.error->code(), Errc::busy);
    EXPECT_EQ(standing.error->message(),
              "loan 1 of device 80000 (store/nvme0) goes on: not given back: /dev/nvme0n1 is mounted [busy]; "
              "stop using it there, or `lanepool reclaim loan:1`");
}

TEST_F(ProgressTest, SoDoesItsReassignment) {
    lend_to("w");
    const auto next = pool->reassign({"80000", "a", "", owner()}, now);
    ASSERT_TRUE(next) << next.error().message();
    keep();
    EXPECT_FALSE(of(Goal::Kind::loans_active, *next).over());
    answer_busy();
    const auto standing = of(Goal::Kind::loans_active, *next);
    ASSERT_TRUE(standing.error);
    EXPECT_EQ(standing.error->code(), Errc::busy);
    EXPECT_THAT(standing.error->message(), HasSubstr("loan 1 was not given back: /dev/nvme0n1 is mounted"));
}

TEST_F(ProgressTest, AReturnThatIsCutShortByAReclaimIsOver) {
    const auto loan = lend_to("w");
    ASSERT_TRUE(pool->give_back({"80000", owner()}, now));
    keep();
    ASSERT_TRUE(pool->reclaim({"80000", "", owner()}, now));
    keep();
    answer_busy();
    recover();
    EXPECT_TRUE(of(Goal::Kind::loan_over, loan).progress.done());
}

} // namespace
} // namespace lanepool::controller
