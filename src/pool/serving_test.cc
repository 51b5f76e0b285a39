// SPDX-License-Identifier: Apache-2.0
//
// Wishes: queued, served, withdrawn, pre-empting, and several as one.
#include "pool/test_bench.h"

#include <gmock/gmock.h>

#include <algorithm>

namespace lanepool::pool {
namespace {

using ::testing::HasSubstr;
using enum StepKind;

class ServingTest : public testing::Bench {
  protected:
    ServingTest() { connect_all(); }

    static BorrowRequest any(const std::string& host, int64_t wait_s = BorrowRequest::wait_for_ever_s) {
        BorrowRequest wish = request(host, "");
        wish.devices[0].kind = "nvme";
        wish.wait_s = wait_s;
        return wish;
    }
    static BorrowRequest both(const std::string& host, int64_t wait_s = 0) {
        BorrowRequest wish = request(host, "80000");
        wish.devices.push_back(wish.devices[0]);
        wish.devices[1].device = "80001";
        wish.wait_s = wait_s;
        return wish;
    }
    std::vector<LoanId> ask(const BorrowRequest& wish) {
        const auto loans = pool->borrow(wish, now);
        EXPECT_TRUE(loans) << loans.error().message();
        keep();
        return loans ? *loans : std::vector<LoanId>{};
    }
    LoanState state(LoanId id) { return loan(id).state; }
    void end_loan_of(const std::string& device) {
        ASSERT_TRUE(pool->reclaim({device, "", owner()}, now));
        keep();
        recover();
        std::erase_if(sent, [](const Order& order) { return order.step.kind == detach; });
    }
    // Two borrowers of which the second takes what it needs from the first.
    void use_preemption(int64_t grace_s) {
        Rule low;
        low.name = "low";
        low.hosts = {"a"};
        low.preemptible = true;
        low.grace_s = grace_s;
        Rule high;
        high.name = "high";
        high.preempts = true;
        high.priority = 100;
        high.highest_priority = 100;
        site.rules = {low, high};
        restart();
        connect_all();
    }
};

// ---- one wish

TEST_F(ServingTest, AnyDeviceThatWillDoIsLentAtOnce) {
    const auto id = ask(any("a", 0)).front();
    EXPECT_EQ(state(id), LoanState::preparing);
    EXPECT_TRUE(loan(id).fdid);
    EXPECT_EQ(device(loan(id).fdid.value).loan, id);
    EXPECT_EQ(loan(id).group, id);
    done(prepare);
    done(attach);
    EXPECT_EQ(state(id), LoanState::active);
}

TEST_F(ServingTest, AWishWaitsUntilADeviceIsFree) {
    lend_to("a", "80000");
    lend_to("b", "80001");
    const auto id = ask(any("c")).front();
    EXPECT_EQ(state(id), LoanState::queued);
    EXPECT_FALSE(loan(id).fdid);
    EXPECT_FALSE(loan(id).reason.empty());
    end_loan_of("80001");
    EXPECT_EQ(state(id), LoanState::preparing);
    EXPECT_EQ(loan(id).fdid, Fdid{0x80001});
    EXPECT_TRUE(loan(id).reason.empty());
}

TEST_F(ServingTest, AWishForOneDeviceWaitsForThatOne) {
    lend_to("a", "80000");
    BorrowRequest wish = request("c", "store/nvme0");
    wish.wait_s = 100;
    const auto id = ask(wish).front();
    EXPECT_EQ(state(id), LoanState::queued);
    EXPECT_THAT(loan(id).reason, HasSubstr("80000"));
    end_loan_of("80000");
    EXPECT_EQ(loan(id).fdid, Fdid{0x80000});
    EXPECT_EQ(state(id), LoanState::preparing);
}

TEST_F(ServingTest, WithoutAWaitItIsRefused) {
    lend_to("a", "80000");
    lend_to("b", "80001");
    const auto refused = pool->borrow(any("c", 0), now);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Errc::busy);
    EXPECT_THAT(refused.error().message(), HasSubstr("nvme cannot be had now"));
    keep();
    EXPECT_EQ(disk.trail.back().action, "borrow-refused");
    EXPECT_EQ(pool->ledger().live_loans(), 2u);
}

TEST_F(ServingTest, WhatIsNowhereIsNotWaitedFor) {
    BorrowRequest wish = any("a");
    wish.devices[0].kind = "gpu";
    const auto refused = pool->borrow(wish, now);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Errc::not_found);
    EXPECT_THAT(refused.error().message(), HasSubstr("there is no gpu in another host than a"));
}

TEST_F(ServingTest, AQueuedWishCanBeWithdrawn) {
    lend_to("a", "80000");
    BorrowRequest wish = request("c");
    wish.wait_s = 100;
    const auto id = ask(wish).front();
    ASSERT_TRUE(pool->give_back({fmt::format("loan:{}", id), owner()}, now));
    keep();
    EXPECT_EQ(state(id), LoanState::returned);
    EXPECT_EQ(pool->next_tick_steady_us(), std::nullopt);
    end_loan_of("80000");
    EXPECT_EQ(device().state, DeviceState::available);
}

TEST_F(ServingTest, AWishWaitsOnlySoLong) {
    lend_to("a", "80000");
    BorrowRequest wish = request("c");
    wish.wait_s = 100;
    const auto id = ask(wish).front();
    EXPECT_EQ(loan(id).wait_until_us, now.unix_us + 100'000'000);
    pass(99'999);
    EXPECT_EQ(state(id), LoanState::queued);
    pass(1);
    EXPECT_EQ(state(id), LoanState::failed);
    EXPECT_THAT(loan(id).reason, HasSubstr("it was not served in time"));
}

TEST_F(ServingTest, WaitsThatMakeNoSenseAreRefused) {
    for (const int64_t wait_s : {int64_t{-1}, options.longest_loan_s + 1})
        EXPECT_EQ(pool->borrow(any("a", wait_s), now).error().code(), Errc::out_of_range);
}

TEST_F(ServingTest, TheQueueSurvivesARestart) {
    lend_to("a", "80000");
    BorrowRequest wish = request("c");
    wish.wait_s = 100;
    const auto id = ask(wish).front();
    now.unix_us += 50'000'000;
    now.steady_us = 77;
    restart();
    ASSERT_TRUE(say(lender_now(loan({1}).id, loan({1}).epoch)));
    ASSERT_TRUE(say(borrower_now("a", 1, loan({1}))));
    ASSERT_TRUE(say(borrower("c", 3)));
    pass(49'999);
    EXPECT_EQ(state(id), LoanState::queued);
    pass(1);
    EXPECT_EQ(state(id), LoanState::failed);
}

TEST_F(ServingTest, AHostThatIsDownKeepsItsPlaceInTheQueue) {
    disconnect("c");
    const auto id = ask(any("c")).front();
    EXPECT_THAT(loan(id).reason, HasSubstr("host c is not connected"));
    pass(60'000);
    EXPECT_EQ(state(id), LoanState::queued);
    ASSERT_TRUE(say(borrower("c", 3)));
    EXPECT_EQ(state(id), LoanState::preparing);
}

TEST_F(ServingTest, AWishForAGuestThatIsGoneFails) {
    disconnect("c");
    const auto id = ask(any("c")).front();
    Hello hello = borrower("c", 3);
    hello.guests = {"other"};
    ASSERT_TRUE(say(hello));
    EXPECT_EQ(state(id), LoanState::failed);
    EXPECT_THAT(loan(id).reason, HasSubstr("host c has no guest 'g'"));
}

TEST_F(ServingTest, ADrainedHostsWishesWaitForItsReturn) {
    ASSERT_TRUE(pool->drain({"c", true, false, "", owner()}, now));
    const auto id = ask(any("c")).front();
    EXPECT_EQ(state(id), LoanState::queued);
    ASSERT_TRUE(pool->drain({"c", false, false, "", owner()}, now));
    keep();
    EXPECT_EQ(state(id), LoanState::preparing);
}

TEST_F(ServingTest, HigherPrioritiesAreServedFirst) {
    lend_to("a", "80000");
    BorrowRequest low = request("b");
    low.wait_s = 100;
    BorrowRequest high = request("c");
    high.wait_s = 100;
    high.priority = 7;
    const auto first = ask(low).front();
    const auto second = ask(high).front();
    end_loan_of("80000");
    EXPECT_EQ(state(first), LoanState::queued);
    EXPECT_EQ(state(second), LoanState::preparing);
}

TEST_F(ServingTest, AReassignmentComesBeforeTheQueue) {
    lend_to("a", "80000");
    BorrowRequest wish = request("b");
    wish.wait_s = 100;
    wish.priority = 7;
    const auto waits = ask(wish).front();
    const auto next = pool->reassign({"80000", "c", "", owner(), true}, now);
    keep();
    recover();
    EXPECT_EQ(state(*next), LoanState::preparing);
    EXPECT_EQ(state(waits), LoanState::queued);
}

TEST_F(ServingTest, AQueuedWishIsNotReassigned) {
    lend_to("a", "80000");
    BorrowRequest wish = request("b");
    wish.wait_s = 100;
    const auto id = ask(wish).front();
    EXPECT_EQ(pool->reassign({fmt::format("loan:{}", id), "c", "", owner()}, now).error().code(),
              Errc::failed_precondition);
}

TEST_F(ServingTest, AWishThatTheNewSiteRefusesFails) {
    lend_to("a", "80000");
    BorrowRequest wish = request("b");
    wish.wait_s = 100;
    wish.caller = {"ann", false};
    const auto refused = ask(wish).front();
    wish.caller = owner();
    const auto owners = ask(wish).front();
    Rule rule;
    rule.name = "bob-only";
    rule.users = {"bob"};
    site.rules = {rule};
    ASSERT_TRUE(pool->apply_site(site, "text", owner(), now));
    keep();
    EXPECT_EQ(state(refused), LoanState::failed);
    EXPECT_THAT(loan(refused).reason, HasSubstr("the site was changed: no rule of the site lets ann"));
    EXPECT_EQ(state(owners), LoanState::queued);
}

TEST_F(ServingTest, AWishIsOnTheTermsOfTheNewSite) {
    lend_to("a", "80000");
    BorrowRequest wish = request("b");
    wish.wait_s = 100;
    wish.priority = 50;
    wish.caller = {"ann", false};
    const auto id = ask(wish).front();
    Rule rule;
    rule.name = "all";
    rule.highest_priority = 5;
    site.rules = {rule};
    ASSERT_TRUE(pool->apply_site(site, "text", owner(), now));
    keep();
    EXPECT_EQ(loan(id).rule, "all");
    EXPECT_EQ(loan(id).priority, 5);
    end_loan_of("80000");
    EXPECT_EQ(state(id), LoanState::preparing);
}

// ---- several devices as one

TEST_F(ServingTest, SeveralDevicesStartTogether) {
    const auto loans = ask(both("a"));
    ASSERT_EQ(loans.size(), 2u);
    for (const LoanId id : loans) {
        EXPECT_EQ(state(id), LoanState::preparing);
        EXPECT_EQ(loan(id).group, loans[0]);
    }
}

TEST_F(ServingTest, NoneOfSeveralStartsAlone) {
    lend_to("a", "80000");
    EXPECT_FALSE(pool->borrow(both("b"), now));
    const auto loans = ask(both("b", 100));
    for (const LoanId id : loans)
        EXPECT_EQ(state(id), LoanState::queued);
    EXPECT_EQ(device(0x80001).state, DeviceState::available);
    end_loan_of("80000");
    for (const LoanId id : loans)
        EXPECT_EQ(state(id), LoanState::preparing);
}

TEST_F(ServingTest, IfOneOfSeveralFailsTheOthersAreGivenBack) {
    const auto loans = ask(both("a"));
    failed(prepare, "no window");
    EXPECT_EQ(state(loans[0]), LoanState::detaching);
    EXPECT_EQ(state(loans[1]), LoanState::detaching);
    EXPECT_THAT(loan(loans[1]).reason, HasSubstr(fmt::format("loan {} of the same request", loans[0])));
    EXPECT_THAT(loan(loans[1]).reason, HasSubstr("no window"));
    std::erase_if(sent, [](const Order& order) { return order.step.kind == prepare; });
    recover();
    recover();
    EXPECT_EQ(state(loans[0]), LoanState::failed);
    EXPECT_EQ(state(loans[1]), LoanState::returned);
    EXPECT_EQ(device(0x80001).state, DeviceState::available);
}

TEST_F(ServingTest, AnActiveOneIsGivenBackToo) {
    const auto loans = ask(both("a"));
    done(prepare);
    done(attach);
    EXPECT_EQ(state(loans[0]), LoanState::active);
    failed(prepare, "no window");
    EXPECT_EQ(state(loans[0]), LoanState::quiescing);
}

TEST_F(ServingTest, OnceAllAreActiveEachGoesItsOwnWay) {
    const auto loans = ask(both("a"));
    for (int i = 0; i < 2; ++i) {
        done(prepare);
        done(attach);
    }
    lost("a", loans[0]);
    EXPECT_EQ(state(loans[1]), LoanState::active);
}

TEST_F(ServingTest, SeveralAreWithdrawnTogether) {
    lend_to("a", "80000");
    const auto loans = ask(both("b", 100));
    ASSERT_TRUE(pool->give_back({fmt::format("loan:{}", loans[1]), owner()}, now));
    keep();
    EXPECT_EQ(state(loans[0]), LoanState::returned);
    EXPECT_EQ(state(loans[1]), LoanState::returned);
}

TEST_F(ServingTest, SeveralExpireTogether) {
    lend_to("a", "80000");
    const auto loans = ask(both("b", 100));
    pass(100'000);
    EXPECT_EQ(state(loans[0]), LoanState::failed);
    EXPECT_EQ(state(loans[1]), LoanState::failed);
}

TEST_F(ServingTest, RefusesRequestsForNothingForTooManyAndForOneTwice) {
    const auto refused = [&](auto&& change) {
        BorrowRequest wish = both("a");
        change(wish);
        const auto loans = pool->borrow(wish, now);
        ASSERT_FALSE(loans);
        EXPECT_EQ(loans.error().code(), Errc::invalid_argument) << loans.error().message();
    };
    refused([](BorrowRequest& wish) { wish.devices.clear(); });
    refused([](BorrowRequest& wish) { wish.devices[1] = Selector(); });
    refused([](BorrowRequest& wish) { wish.devices[1].device = "store/nvme0"; });
    refused([](BorrowRequest& wish) { wish.devices[1].model = std::string(1000, 'x'); });
    refused([&](BorrowRequest& wish) { wish.devices.resize(options.devices_per_request + 1); });
}

// ---- dry run

TEST_F(ServingTest, ADryRunSaysWhichDeviceAndChangesNothing) {
    const Explanation explained = pool->explain(request("a"), now);
    EXPECT_TRUE(explained.allowed);
    EXPECT_TRUE(explained.now);
    EXPECT_EQ(explained.devices, std::vector<Fdid>{{0x80000}});
    EXPECT_FALSE(explained.why.empty());
    EXPECT_TRUE(pool->outcome()->empty());
}

TEST_F(ServingTest, ADryRunSaysWhyNotNow) {
    lend_to("a", "80000");
    const auto trail = disk.trail.size();
    const Explanation explained = pool->explain(request("b"), now);
    EXPECT_TRUE(explained.allowed);
    EXPECT_FALSE(explained.now);
    EXPECT_TRUE(explained.devices.empty());
    EXPECT_THAT(explained.why.at(0), HasSubstr("is lent to host a"));
    keep();
    EXPECT_EQ(disk.trail.size(), trail);
}

TEST_F(ServingTest, ADryRunSaysWhyNotAtAll) {
    const Explanation explained = pool->explain(request("nobody"), now);
    EXPECT_FALSE(explained.allowed);
    EXPECT_FALSE(explained.now);
    EXPECT_THAT(explained.why.at(0), HasSubstr("there is no host 'nobody'"));
    EXPECT_TRUE(pool->outcome()->empty());
}

// ---- pre-emption

TEST_F(ServingTest, APreemptedLoanIsWarnedAndHasItsGrace) {
    use_preemption(30);
    BorrowRequest low = request("a");
    low.caller = {"ann", false};
    const auto victim = ask(low).front();
    done(prepare);
    done(attach);
    BorrowRequest high = request("b");
    high.caller = {"bob", false};
    high.wait_s = 1000;
    const auto winner = ask(high).front();
    EXPECT_EQ(state(victim), LoanState::active);
    EXPECT_EQ(loan(victim).preempted_by, winner);
    EXPECT_TRUE(loan(victim).warned);
    EXPECT_EQ(loan(victim).due_us, now.unix_us + 30'000'000);
    EXPECT_EQ(take(extend).step.lease_ms, 30'000 + options.lease_grace_ms);
    const auto entry = std::find_if(disk.trail.begin(), disk.trail.end(),
                                    [](const auto& one) { return one.action == "preempted"; });
    ASSERT_NE(entry, disk.trail.end());
    EXPECT_THAT(entry->reason, HasSubstr("for loan 2 of bob, priority 100 over 0; it has 30 s"));
    pass(29'999);
    EXPECT_EQ(state(victim), LoanState::active);
    pass(1);
    EXPECT_EQ(state(victim), LoanState::quiescing);
    done(detach);
    recover();
    EXPECT_EQ(state(victim), LoanState::returned);
    EXPECT_EQ(loan(victim).reason, "pre-empted for loan 2");
    EXPECT_EQ(state(winner), LoanState::preparing);
}

TEST_F(ServingTest, APreemptedLoanIsRenewedOnlyIfNobodyWaitsForItAnyMore) {
    use_preemption(30);
    BorrowRequest low = request("a");
    low.caller = {"ann", false};
    const auto victim = ask(low).front();
    done(prepare);
    done(attach);
    BorrowRequest high = request("b");
    high.wait_s = 1000;
    high.caller = {"bob", false};
    const auto winner = ask(high).front();
    const auto refused = pool->renew({"80000", 1000, {"ann", false}}, now);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message(), HasSubstr("for loan 2 of priority 100"));
    ASSERT_TRUE(pool->give_back({fmt::format("loan:{}", winner), {"bob", false}}, now));
    ASSERT_TRUE(pool->renew({"80000", 1000, {"ann", false}}, now));
    keep();
    EXPECT_FALSE(loan(victim).preempted_by);
    pass(999'999);
    EXPECT_EQ(state(victim), LoanState::active);
}

TEST_F(ServingTest, ALoanThatIsNotActiveYetIsPreemptedWhenItIs) {
    use_preemption(30);
    BorrowRequest low = request("a", "80000", 1000);
    low.caller = {"ann", false};
    const auto victim = ask(low).front();
    done(prepare);
    BorrowRequest high = request("b");
    high.wait_s = 1000;
    high.caller = {"bob", false};
    const auto winner = ask(high).front();
    EXPECT_FALSE(loan(victim).preempted_by);
    done(attach);
    EXPECT_EQ(loan(victim).preempted_by, winner);
    EXPECT_EQ(loan(victim).due_us, now.unix_us + 30'000'000);
}

TEST_F(ServingTest, ALoanThatWouldEndBeforeItsGraceKeepsItsEnd) {
    use_preemption(3000);
    BorrowRequest low = request("a", "80000", 400);
    low.caller = {"ann", false};
    const auto victim = ask(low).front();
    done(prepare);
    done(attach);
    const int64_t due_us = loan(victim).due_us;
    BorrowRequest high = request("b");
    high.wait_s = 10000;
    high.caller = {"bob", false};
    ask(high);
    EXPECT_EQ(loan(victim).due_us, due_us);
}

} // namespace
} // namespace lanepool::pool
