// SPDX-License-Identifier: Apache-2.0
#include "agent/fence_bench.h"

#include <gmock/gmock.h>

namespace lanepool::agent {
namespace {

using pool::LoanId;
using pool::StepKind;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using State = LenderFence::State;

class SharedFence : public testing::FenceBench {
  protected:
    std::vector<uint64_t> open_ones() const {
        std::vector<uint64_t> loans;
        for (const Opening& opening : fence->openings())
            loans.push_back(opening.loan.value);
        return loans;
    }
};

// ---- who is let in

TEST_F(SharedFence, LetsInASharedLoanOfTheSameEpoch) {
    shared(1);
    share(8, 5);
    EXPECT_THAT(did, ElementsAre("open 8")); // of which epoch it is, is on disk already
    done("open");
    EXPECT_EQ(answer(), "ok");
    EXPECT_EQ(fence->observed().loan, LoanId{7});
    EXPECT_THAT(fence->observed().joined, ElementsAre(LoanId{8}));
}

TEST_F(SharedFence, LetsInWhoWaitsForTheFirst) {
    pooled();
    share(7, 5);
    share(8, 5);
    EXPECT_THAT(did, ElementsAre("store 5 unclean", "open 7"));
    done("open");
    EXPECT_EQ(did.back(), "open 8");
    done("open");
    EXPECT_THAT(open_ones(), ElementsAre(7, 8));
    EXPECT_EQ(answers.size(), 2u);
}

TEST_F(SharedFence, LetsInNobodyElse) {
    shared(1);
    prepare(8, 5); // exclusive
    EXPECT_EQ(answer(), "stale_epoch");
    prepare(8, 6);
    EXPECT_EQ(answer(), "busy");
    share(8, 6);
    EXPECT_EQ(answer(), "busy");
    share(8, 4);
    EXPECT_EQ(answer(), "stale_epoch");
    EXPECT_THAT(did, IsEmpty());
}

TEST_F(SharedFence, LetsInNobodyBesideALoanThatIsNotShared) {
    lent();
    share(8, 5);
    EXPECT_EQ(answer(), "stale_epoch");
    EXPECT_THAT(did, IsEmpty());
}

TEST_F(SharedFence, LetsInNobodyAfterTheLast) {
    shared(1);
    ask(StepKind::cut, 6);
    share(8, 5);
    EXPECT_EQ(answer(), "stale_epoch");
    done("close");
    share(8, 5);
    EXPECT_EQ(answer(), "stale_epoch");
}

TEST_F(SharedFence, SaysOnceMoreWhatIsOpen) {
    shared(2);
    share(7, 5);
    EXPECT_EQ(answer(), "ok");
    share(8, 5);
    EXPECT_EQ(answer(), "ok");
    EXPECT_THAT(did, IsEmpty());
}

TEST_F(SharedFence, KeepsTheOthersWhereOneCannotBeOpened) {
    shared(1);
    share(8, 5);
    done("open", fail(Errc::no_space, "no windows"));
    EXPECT_EQ(answer(), "no_space");
    EXPECT_EQ(fence->state(), State::open);
    EXPECT_THAT(open_ones(), ElementsAre(7));
    EXPECT_THAT(losses, IsEmpty());
}

TEST_F(SharedFence, ClosesAllWhereItIsNotKnownWhetherOneIsOpen) {
    shared(1);
    share(8, 5);
    done("open", fail(Errc::timeout, "silence"));
    EXPECT_EQ(answer(), "timeout");
    EXPECT_THAT(did, ElementsAre("open 8", "close", "lost 7"));
}

// ---- who goes

TEST_F(SharedFence, ExpelsOneAlone) {
    shared(3);
    ask(StepKind::expel, 5, 8);
    EXPECT_THAT(did, ElementsAre("expel 8"));
    EXPECT_EQ(answer(), "none");
    done("expel");
    EXPECT_EQ(answer(), "ok");
    EXPECT_THAT(open_ones(), ElementsAre(7, 9));
    EXPECT_EQ(fence->state(), State::open);
    EXPECT_THAT(losses, IsEmpty());
}

TEST_F(SharedFence, LetsNobodyInAgainWhoWasExpelled) {
    shared(2);
    const pool::StepId late = share(8, 5); // it is open: said once more
    EXPECT_TRUE(late);
    const pool::Order prepare_of_8 = last;
    ask(StepKind::expel, 5, 8);
    repeat(prepare_of_8);
    EXPECT_EQ(answer(), "stale_epoch");
    done("expel");
    repeat(prepare_of_8);
    EXPECT_EQ(answer(), "stale_epoch");
    EXPECT_THAT(open_ones(), ElementsAre(7));
}

TEST_F(SharedFence, LetsNobodyInWhoWasExpelledBeforeHeCame) {
    shared(1);
    ask(StepKind::expel, 5, 8);
    EXPECT_EQ(answer(), "ok");
    share(8, 5);
    EXPECT_EQ(answer(), "stale_epoch");
}

TEST_F(SharedFence, ExpelsNobodyTwice) {
    shared(2);
    ask(StepKind::expel, 5, 8);
    const pool::Order first = last;
    repeat(first);
    done("expel");
    EXPECT_EQ(answers.size(), 2u);
    repeat(first);
    EXPECT_EQ(answer(), "ok");
    EXPECT_THAT(did, ElementsAre("expel 8"));
}

TEST_F(SharedFence, ExpelsNobodyByAnOldStep) {
    shared(2);
    ask(StepKind::expel, 4, 8);
    EXPECT_EQ(answer(), "stale_epoch");
    EXPECT_THAT(open_ones(), ElementsAre(7, 8));
}

TEST_F(SharedFence, ExpelsOneAfterTheOther) {
    shared(3);
    ask(StepKind::expel, 5, 7);
    ask(StepKind::expel, 5, 9);
    EXPECT_THAT(did, ElementsAre("expel 7"));
    done("expel");
    done("expel");
    EXPECT_THAT(open_ones(), ElementsAre(8));
}

TEST_F(SharedFence, ExpelsWhoIsBeingOpenedOnceHeIs) {
    shared(1);
    share(8, 5);
    ask(StepKind::expel, 5, 8);
    EXPECT_THAT(did, ElementsAre("open 8"));
    done("open");
    EXPECT_EQ(did.back(), "expel 8");
    done("expel");
    EXPECT_THAT(open_ones(), ElementsAre(7));
}

TEST_F(SharedFence, ClosesAllWithTheLast) {
    shared(1);
    ask(StepKind::expel, 5, 7);
    EXPECT_THAT(did, ElementsAre("close"));
    done("close");
    EXPECT_EQ(answer(), "ok");
    EXPECT_EQ(fence->state(), State::unverified);
}

TEST_F(SharedFence, ClosesAllWhereOneCannotBeExpelled) {
    shared(3);
    ask(StepKind::expel, 5, 8);
    done("expel", fail(Errc::io, "stuck"));
    EXPECT_EQ(answer(), "io");
    EXPECT_THAT(did, ElementsAre("expel 8", "close", "lost 7", "lost 9"));
    done("close");
    EXPECT_THAT(open_ones(), IsEmpty());
}

TEST_F(SharedFence, IsCutWhileOneIsExpelled) {
    shared(2);
    ask(StepKind::expel, 5, 8);
    ask(StepKind::cut, 6);
    EXPECT_EQ(answer(), "cancelled");
    done("expel"); // late
    EXPECT_EQ(fence->state(), State::closing);
    done("close");
    EXPECT_EQ(answer(), "ok");
    EXPECT_THAT(losses, IsEmpty());
}

TEST_F(SharedFence, IsNotResetWhileOneIsExpelled) {
    shared(2);
    ask(StepKind::expel, 5, 8);
    ask(StepKind::reset, 5);
    EXPECT_EQ(answer(), "failed_precondition");
    ask(StepKind::sanitize, 5);
    EXPECT_EQ(answer(), "failed_precondition");
}

TEST_F(SharedFence, ReportsAllLoansOfADeviceThatGoes) {
    shared(3);
    ask(StepKind::expel, 5, 8);
    fence->absent("pulled");
    EXPECT_EQ(answer(), "ok"); // closed it is
    EXPECT_THAT(did, ElementsAre("expel 8", "lost 7", "lost 9"));
    EXPECT_THAT(open_ones(), IsEmpty());
}

TEST_F(SharedFence, RemembersOnlySoMany) {
    shared(1);
    for (uint64_t loan = 8; loan < 3000; ++loan)
        ask(StepKind::expel, 5, loan);
    for (const uint64_t loan : {8, 1500, 2999}) {
        share(loan, 5);
        EXPECT_EQ(answer(), "stale_epoch") << loan;
    }
    EXPECT_EQ(fence->state(), State::open);
    ask(StepKind::extend, 5, 7, 1000); // it is older than all of them, and open
    EXPECT_EQ(answer(), "ok");
    share(3000, 5);
    done("open");
    EXPECT_EQ(answer(), "ok");
}

// ---- leases

TEST_F(SharedFence, ExpelsWhoseLeaseHasRunOut) {
    pooled();
    share(7, 5);
    done("open");
    share(8, 5, 2000);
    done("open");
    did.clear();
    EXPECT_EQ(fence->next_tick_us(), now_us + 2'000'000);
    pass(2000);
    EXPECT_THAT(did, ElementsAre("expel 8", "lost 8"));
    done("expel");
    EXPECT_THAT(open_ones(), ElementsAre(7));
    share(8, 5, 2000);
    EXPECT_EQ(answer(), "stale_epoch");
    ask(StepKind::expel, 5, 8); // as whoever decides wants it
    EXPECT_EQ(answer(), "ok");
}

TEST_F(SharedFence, ExtendsEachLeaseByItself) {
    shared(2, 2000);
    ask(StepKind::extend, 5, 7, 5000);
    pass(2000);
    EXPECT_THAT(did, ElementsAre("expel 8", "lost 8"));
    ask(StepKind::extend, 5, 8, 5000); // too late
    EXPECT_EQ(answer(), "failed_precondition");
    done("expel");
    pass(3000);
    EXPECT_EQ(did.back(), "lost 7");
    EXPECT_EQ(fence->state(), State::closing);
}

TEST_F(SharedFence, ClosesAllWhoseLeasesHaveRunOutTogether) {
    shared(3, 2000);
    pass(2000);
    EXPECT_THAT(did, ElementsAre("close", "lost 7", "lost 8", "lost 9"));
}

TEST_F(SharedFence, ClosesAllWhereTheLastButOneIsBeingExpelled) {
    pooled();
    share(7, 5);
    done("open");
    share(8, 5, 2000);
    done("open");
    ask(StepKind::expel, 5, 7);
    did.clear();
    answers.clear();
    pass(2000);
    EXPECT_THAT(did, ElementsAre("close", "lost 8"));
    done("close");
    EXPECT_EQ(answer(), "ok"); // of the expulsion
}

TEST_F(SharedFence, ExpelsLaterWhoseLeaseHasRunOutWhileAnotherIsOpened) {
    shared(2, 2000);
    ask(StepKind::extend, 5, 7, 50'000);
    share(9, 5);
    did.clear();
    pass(2000);
    EXPECT_THAT(did, ElementsAre("lost 8"));
    EXPECT_NE(fence->next_tick_us(), now_us); // nothing turns in a circle meanwhile
    done("open");
    EXPECT_EQ(did.back(), "expel 8");
    done("expel");
    EXPECT_THAT(open_ones(), ElementsAre(7, 9));
}

TEST_F(SharedFence, HasNobodyAfterARestart) {
    shared(2);
    start();
    reach();
    share(8, 5);
    EXPECT_EQ(answer(), "stale_epoch");
    EXPECT_THAT(open_ones(), IsEmpty());
}

} // namespace
} // namespace lanepool::agent
