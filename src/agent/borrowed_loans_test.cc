// SPDX-License-Identifier: Apache-2.0
#include "agent/borrowed_loans.h"

#include <gtest/gtest.h>

namespace lanepool::agent {
namespace {

pool::Step step(uint64_t loan, uint64_t epoch) {
    pool::Step made;
    made.fdid = pool::first_fdid;
    made.loan = {loan};
    made.epoch = {epoch};
    return made;
}

TEST(BorrowedLoans, GoesOnWithALoanThatIsHere) {
    BorrowedLoans loans;
    EXPECT_EQ(loans.attach(step(7, 5)), BorrowedLoans::Attach::begin);
    EXPECT_EQ(loans.attach(step(7, 5)), BorrowedLoans::Attach::go_on);
}

TEST(BorrowedLoans, RefusesAnotherEpochOfALoanThatIsHere) {
    BorrowedLoans loans;
    ASSERT_TRUE(loans.attach(step(7, 5)));
    EXPECT_EQ(loans.attach(step(7, 6)).error().code(), Errc::stale_epoch);
}

TEST(BorrowedLoans, DoesNotTakeALoanAgainThatWasDetached) {
    BorrowedLoans loans;
    ASSERT_TRUE(loans.attach(step(7, 5)));
    EXPECT_EQ(loans.detach(step(7, 5)), BorrowedLoans::Detach::ask_guest);
    loans.forget({7});
    EXPECT_EQ(loans.attach(step(7, 5)).error().code(), Errc::stale_epoch);
    EXPECT_EQ(loans.attach(step(8, 7)), BorrowedLoans::Attach::begin);
}

TEST(BorrowedLoans, DoesNotAskTheGuestOfALoanThatIsCut) {
    BorrowedLoans loans;
    ASSERT_TRUE(loans.attach(step(7, 5)));
    EXPECT_EQ(loans.detach(step(7, 6)), BorrowedLoans::Detach::cut_off);
}

TEST(BorrowedLoans, TakesAnotherLoanOfTheSameEpochBesideAndAfterOne) {
    BorrowedLoans loans;
    ASSERT_TRUE(loans.attach(step(7, 5)));
    EXPECT_EQ(loans.attach(step(8, 5)), BorrowedLoans::Attach::begin);
    EXPECT_EQ(loans.detach(step(8, 5)), BorrowedLoans::Detach::ask_guest);
    loans.forget({8});
    EXPECT_EQ(loans.attach(step(8, 5)).error().code(), Errc::stale_epoch);
    EXPECT_EQ(loans.attach(step(7, 5)), BorrowedLoans::Attach::go_on);
    EXPECT_EQ(loans.attach(step(9, 5)), BorrowedLoans::Attach::begin);
    EXPECT_EQ(loans.detach(step(7, 6)), BorrowedLoans::Detach::cut_off); // with all others of that epoch
    EXPECT_EQ(loans.attach(step(10, 5)).error().code(), Errc::stale_epoch);
}

TEST(BorrowedLoans, RemembersOnlySoManyOfAnEpoch) {
    BorrowedLoans loans;
    for (uint64_t loan = 1; loan <= 3000; ++loan)
        EXPECT_EQ(loans.detach(step(loan, 5)), BorrowedLoans::Detach::nothing);
    for (const uint64_t loan : {1, 1500, 3000})
        EXPECT_FALSE(loans.attach(step(loan, 5))) << loan;
    EXPECT_TRUE(loans.attach(step(3001, 5)));
}

TEST(BorrowedLoans, HasNothingToDetachWhereNothingIs) {
    BorrowedLoans loans;
    EXPECT_EQ(loans.detach(step(7, 5)), BorrowedLoans::Detach::nothing);
}

} // namespace
} // namespace lanepool::agent
