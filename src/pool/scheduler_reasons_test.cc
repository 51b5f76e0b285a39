// SPDX-License-Identifier: Apache-2.0
//
// What would become of a wish, and why it is not served yet.
#include "pool/scheduler_bench.h"

namespace lanepool::pool::testing {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// ---- Placing without queueing

TEST_F(SchedulerTest, PlacingSaysWhatWouldBeAndChangesNothing) {
    const Fdid fdid = add_device("store");
    const Placement placement = scheduler.place({wish("a")}, now);
    EXPECT_TRUE(placement.now);
    EXPECT_EQ(placement.starts, (std::vector<Start>{{{1}, fdid, ""}}));
    EXPECT_THAT(placement.why.front(), HasSubstr("store/"));
    EXPECT_THAT(decide().starts, IsEmpty());
}

TEST_F(SchedulerTest, PlacingRespectsThoseAhead) {
    add_device("store");
    queue(wish("b"));
    const Placement placement = scheduler.place({wish("a")}, now);
    EXPECT_FALSE(placement.now);
    EXPECT_EQ(placement.ahead, 1u);
    EXPECT_THAT(placement.why, ::testing::Contains(HasSubstr("go to those ahead")));
}

TEST_F(SchedulerTest, PlacingAheadOfAnotherGetsTheDevice) {
    add_device("store");
    queue(wish("b"));
    Loan high = wish("a");
    high.priority = 3;
    EXPECT_TRUE(scheduler.place({high}, now).now);
}

// ---- Reasons

TEST_F(SchedulerTest, TheReasonNamesWhoHasItAndUntilWhen) {
    Loan held = of("lab");
    held.duration_s = 3600;
    const LoanId holder = lend(add_device("store"), held);
    const LoanId waits = queue(wish("b"));
    const std::string text = why(decide(), waits);
    EXPECT_THAT(text,
                HasSubstr(fmt::format("80000 (store/nvme80000) is lent to a (loan:{}, tenant 'lab') until "
                                      "2023-11-14T23:13:20Z",
                                      holder)));
}

TEST_F(SchedulerTest, TheReasonSaysThatThereIsNoSuchDevice) {
    const LoanId waits = queue(wish("a", "fpga"));
    EXPECT_THAT(why(decide(), waits), HasSubstr("no device in the pool is what is wanted: fpga"));
}

TEST_F(SchedulerTest, TheReasonSaysWhyAnIdleDeviceCannotBeLent) {
    const Fdid fdid = add_device("store");
    change_device(fdid, [](Device& device) {
        device.state = DeviceState::quarantined;
        device.reason = "the reset failed";
    });
    Loan loan = wish("a");
    loan.wanted.device = "80000";
    queue(loan);
    EXPECT_THAT(why(decide(), loan.id), HasSubstr("is quarantined: the reset failed"));
}

TEST_F(SchedulerTest, TheReasonSaysThatTheBorrowerIsAway) {
    const LoanId waits = queue(wish("a"));
    change_host("a", [](Host& host) { host.up = false; });
    EXPECT_THAT(why(decide(), waits), HasSubstr("host a is not connected"));
}

TEST_F(SchedulerTest, TheReasonStaysTheSameWhileTimePasses) {
    lend(add_device("store"), of("t"));
    const LoanId waits = queue(wish("b"));
    const std::string before = scheduler.explain(waits, now).why.front();
    pass_s(100);
    EXPECT_EQ(scheduler.explain(waits, now).why.front(), before);
}

TEST_F(SchedulerTest, AnExplanationSaysHowManyAreAhead) {
    queue(of("t", 5));
    queue(of("t", 1));
    const LoanId last = queue(of("t", 1));
    EXPECT_EQ(scheduler.explain(last, now).ahead, 2u);
}

TEST_F(SchedulerTest, AnExplanationSaysWhenAtTheEarliest) {
    Loan held = wish("b");
    held.duration_s = 100;
    lend(add_device("store"), held);
    const LoanId waits = queue(wish("a"));
    EXPECT_EQ(scheduler.explain(waits, now).not_before_us, now.unix_us + 100'000'000);
}

} // namespace
} // namespace lanepool::pool::testing
