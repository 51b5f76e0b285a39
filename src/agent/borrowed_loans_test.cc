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

TEST(BorrowedLoans, HasNothingToDetachWhereNothingIs) {
    BorrowedLoans loans;
    EXPECT_EQ(loans.detach(step(7, 5)), BorrowedLoans::Detach::nothing);
}

} // namespace
} // namespace lanepool::agent
