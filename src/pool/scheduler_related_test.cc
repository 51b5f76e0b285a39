// SPDX-License-Identifier: Apache-2.0
//
// Requests for devices by their fdids, which are decided by a look at those alone that want the same ones.
#include "pool/scheduler_bench.h"

namespace lanepool::pool::testing {
namespace {

class RelatedTest : public SchedulerTest {
  protected:
    Loan wish_for(Fdid fdid, const std::string& borrower = "b") {
        Loan loan = wish(borrower);
        loan.wanted = {};
        loan.wanted.device = fmt::format("{:x}", fdid.value);
        return loan;
    }
};

TEST_F(RelatedTest, WhatIsKeptForAGroupIsNotGivenAway) {
    const Fdid kept = add_device("store");
    const Fdid lent = add_device("store");
    const Fdid other = add_device("store");
    lend(lent, wish_for(lent));
    queue_group({wish_for(kept, "a"), wish_for(lent, "a")});
    EXPECT_FALSE(scheduler.place({wish_for(kept)}, now, false).now);
    EXPECT_TRUE(scheduler.place({wish_for(other)}, now, false).now);
}

TEST_F(RelatedTest, WhoWasToldWhyHeWaitsIsToldAgainAfterAWhile) {
    SchedulerLimits limited = limits();
    limited.tell_again_us = 1'000'000;
    Scheduler one({}, limited);
    one.set_site(site);
    for (const auto& [name, host] : hosts)
        one.note(host, true);
    std::vector<Loan> wishes{wish("a"), wish("a")}; // groups are always looked at
    for (Loan& each : wishes) {
        each.group = wishes.front().id;
        one.note(each, true);
    }
    EXPECT_EQ(one.decide(now).waiting.size(), 1u);
    const Decision again = one.decide(now);
    EXPECT_TRUE(again.waiting.empty());
    EXPECT_EQ(again.tell_again_steady_us, now.steady_us + 1'000'000);
    pass_s(1);
    EXPECT_EQ(one.decide(now).waiting.size(), 1u);
}

} // namespace
} // namespace lanepool::pool::testing
