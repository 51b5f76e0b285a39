// SPDX-License-Identifier: Apache-2.0
//
// For tests: words for loans to applications.
#pragma once

#include "pool/test_bench.h"

namespace lanepool::pool::testing {

class SmartioBench : public Bench {
  protected:
    SmartioBench() { connect_all(); }

    static BorrowRequest wish(const std::string& host, bool shared = false,
                              const std::string& device = "80000") {
        BorrowRequest wish = request(host, device);
        wish.access_model = AccessModel::smartio;
        wish.shared = shared;
        return wish;
    }
    static BorrowRequest named(BorrowRequest wish, const std::string& user, const std::string& agent_of) {
        wish.caller = {user, false, Role::user, agent_of};
        return wish;
    }
    Result<LoanId> ask(const BorrowRequest& wish) {
        auto loans = pool->borrow(wish, now);
        keep();
        if (!loans) return tl::unexpected<Error>(loans.error());
        return loans->front();
    }
    LoanId use(const BorrowRequest& wish) {
        const auto loan = ask(wish);
        EXPECT_TRUE(loan) << loan.error().message();
        done(StepKind::prepare);
        done(StepKind::attach);
        return loan.value_or(LoanId());
    }
    std::string refusal(const BorrowRequest& wish, Errc code = Errc::busy) {
        const auto loan = ask(wish);
        if (loan) return "it was let in";
        EXPECT_EQ(loan.error().code(), code);
        return loan.error().message();
    }
    static std::string named(LoanId id) { return fmt::format("loan:{}", id); }
    // The application lets go, and nobody else has the device.
    void give_back(LoanId id) {
        ASSERT_TRUE(pool->give_back({named(id), owner()}, now));
        keep();
        done(StepKind::detach);
        recover();
    }
};

} // namespace lanepool::pool::testing
