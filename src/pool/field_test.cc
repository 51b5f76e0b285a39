// SPDX-License-Identifier: Apache-2.0
//
// What users of today's systems complain about, as far as it is decided here. Each test is named after its
// complaint: its number, and what must not happen. Of devices and who gets them: field_device_test.cc.
#include "pool/field_bench.h"

#include <gmock/gmock.h>

#include <algorithm>

namespace lanepool::pool {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using enum StepKind;

using testing::FieldComplaint;

// Double allocation after a forced deletion. The host of the device refuses by the epoch; here it is that no
// second prepare is ever sent before the first user is cut off, and that it carries a higher epoch.
TEST_F(FieldComplaint, No1SecondPrepareAfterForce) {
    const auto first = lend_to("a");
    const Epoch first_epoch = loan(first).epoch;
    force_away();
    EXPECT_EQ(borrow("b").error().code(), Errc::busy);
    const auto second = pool->borrow(waiting(request("b")), now);
    ASSERT_TRUE(second);
    keep();
    const Order order = take(cut);
    EXPECT_GT(order.step.epoch, first_epoch);
    for (const Order& other : sent)
        EXPECT_NE(other.step.kind, prepare);
    answer(order);
    done(reset);
    EXPECT_TRUE(std::none_of(sent.begin(), sent.end(), [](auto& one) { return one.step.kind == prepare; }));
    done(sanitize);
    const Order prepared = take(prepare);
    EXPECT_EQ(prepared.step.loan, second->front());
    EXPECT_GT(prepared.step.epoch, order.step.epoch);
    // What the first user's host still says about its loan no longer counts.
    pool->lost("store", {first, first_epoch, true, "late"}, now);
    EXPECT_EQ(loan(second->front()).state, LoanState::preparing);
}

// State that was prepared and leaked blocks the next user.
TEST_F(FieldComplaint, No2LeakedPreparedStateBlocksTheNext) {
    Hello leaked = lender();
    leaked.devices[0].loan = {42};
    leaked.devices[0].clean = false;
    ASSERT_TRUE(say(leaked));
    const auto id = pool->borrow(waiting(request("a")), now);
    ASSERT_TRUE(id);
    keep();
    recover();
    EXPECT_EQ(loan(id->front()).state, LoanState::preparing);
}

// ... and so does a borrower that claims a loan that nobody knows.
TEST_F(FieldComplaint, No2ZombieClaimsAtTheBorrower) {
    Hello zombie = borrower("a", 1);
    zombie.loans.push_back({{42}, {0x80000}, {9}, true});
    ASSERT_TRUE(say(zombie));
    EXPECT_EQ(take(detach).step.loan, LoanId{42});
    EXPECT_TRUE(borrow("b"));
}

// After a reboot the set-up is gone while the record says ready.
TEST_F(FieldComplaint, No3RecordSaysReadyAfterAReboot) {
    for (const bool of_lender : {true, false}) {
        const auto id = lend_to("a");
        Hello rebooted = of_lender ? lender_now({}, {}) : borrower("a", 1);
        rebooted.instance = "after the reboot";
        ASSERT_TRUE(say(rebooted));
        EXPECT_EQ(loan(id).state, LoanState::detaching);
        std::erase_if(sent, [](const Order& order) { return order.step.kind == detach; });
        recover();
        EXPECT_EQ(loan(id).state, LoanState::failed);
        EXPECT_EQ(device().state, DeviceState::available);
    }
}

// An attach that was half done is not rolled back.
TEST_F(FieldComplaint, No4HalfAttachedIsRolledBack) {
    for (const StepKind failing : {prepare, attach}) {
        const auto id = borrow("a");
        if (failing == attach) done(prepare);
        failed(failing, "it did not fit");
        std::erase_if(sent, [](const Order& order) { return order.step.kind == detach; });
        recover();
        EXPECT_EQ(loan(*id).state, LoanState::failed);
        EXPECT_EQ(device().state, DeviceState::available);
        EXPECT_TRUE(device().clean);
    }
}

// ... nor is a request for several, of which one fails.
TEST_F(FieldComplaint, No4HalfOfARequestIsRolledBack) {
    BorrowRequest both = request("a");
    both.devices.push_back(both.devices[0]);
    both.devices[1].device = "80001";
    const auto loans = pool->borrow(both, now);
    ASSERT_TRUE(loans);
    keep();
    done(prepare);
    failed(prepare, "no window");
    std::erase_if(sent, [](const Order& order) { return order.step.kind == detach; });
    recover();
    recover();
    EXPECT_TRUE(has_ended(loan((*loans)[0]).state));
    EXPECT_TRUE(has_ended(loan((*loans)[1]).state));
    EXPECT_EQ(free_devices(), 2u);
}

// An unbind that blocks for ever, because somebody still holds the device. Here it is the guest that does not
// let go: whoever asks for the device is told who has it, the guest has its time and no more, and at the end
// nothing is left half detached. (A process of the lender's own that holds the device comes with real hosts.)
TEST_F(FieldComplaint, No5HoldersAreNamedBeforeAnythingIsTakenAway) {
    const auto id = lend_to("a");
    for (const Error& refused :
         {pool->borrow(request("b"), now).error(), pool->reset({"80000", owner()}, now).error(),
          pool->keep_local({"80000", owner()}, now).error()}) {
        EXPECT_THAT(refused.message(), HasSubstr(fmt::format("loan {}", id)));
        EXPECT_THAT(refused.message(), AnyOf(HasSubstr("host a"), HasSubstr("lanepool return")));
    }
    keep();
    EXPECT_EQ(loan(id).state, LoanState::active);
    EXPECT_EQ(device().state, DeviceState::lent);
    EXPECT_THAT(sent, IsEmpty());
}

TEST_F(FieldComplaint, No5AGuestThatNeverLetsGoIsCutOffInTime) {
    const auto id = lend_to("a");
    ASSERT_TRUE(pool->give_back({"80000", owner(), 3000}, now));
    keep();
    EXPECT_EQ(take(detach).step.deadline_ms, 3000u);
    pass(3000 + options.margin_ms - 1);
    EXPECT_EQ(loan(id).state, LoanState::quiescing);
    pass(1);
    EXPECT_EQ(loan(id).state, LoanState::detaching);
    recover();
    EXPECT_EQ(loan(id).state, LoanState::returned);
    EXPECT_THAT(loan(id).reason, HasSubstr("the guest did not let go and was cut off"));
    EXPECT_EQ(device().state, DeviceState::available);
    EXPECT_TRUE(device().clean);
}

// ... nor does a device that blocks while it is cut off or reset: it is out of the pool, with the reason.
TEST_F(FieldComplaint, No5ADeviceThatBlocksIsSetAside) {
    for (const StepKind blocking : {cut, reset, sanitize}) {
        const auto id = lend_to("a");
        force_away();
        if (blocking != cut) done(cut);
        if (blocking == sanitize) done(reset);
        const uint32_t deadline_ms = take(blocking).step.deadline_ms;
        pass(deadline_ms + options.margin_ms);
        EXPECT_EQ(loan(id).state, LoanState::failed);
        EXPECT_EQ(device().state, DeviceState::quarantined);
        EXPECT_THAT(device().reason, HasSubstr(fmt::format("{} failed", name(blocking))));
        EXPECT_TRUE(std::none_of(pool->ledger().steps.all().begin(), pool->ledger().steps.all().end(),
                                 [](const auto& step) { return !step.second.cleanup; }));
        ASSERT_TRUE(pool->restore({"80000", owner()}, now));
        keep();
        recover();
        EXPECT_EQ(device().state, DeviceState::available);
        sent.clear();
    }
}

// A release that is stuck for ever, because the device or a host has vanished; and a record that is dropped
// with its host, so that the device never returns.
TEST_F(FieldComplaint, No9ReleaseStuckBecauseTheBorrowerVanished) {
    const auto id = lend_to("a");
    ASSERT_TRUE(pool->give_back({"80000", owner()}, now));
    keep();
    disconnect("a");
    pass(options.detach_ms + options.margin_ms);
    recover();
    EXPECT_EQ(loan(id).state, LoanState::returned);
    EXPECT_EQ(device().state, DeviceState::available);
}

TEST_F(FieldComplaint, No9ReleaseStuckBecauseTheLenderVanished) {
    const auto id = lend_to("a");
    ASSERT_TRUE(pool->give_back({"80000", owner()}, now));
    keep();
    disconnect("store");
    done(detach);
    pass(options.lender_grace_ms);
    EXPECT_EQ(loan(id).state, LoanState::returned);
    EXPECT_EQ(device().state, DeviceState::offline);
    EXPECT_TRUE(pool->ledger().devices.find({0x80000}));
    ASSERT_TRUE(say(lender_now(id, loan(id).epoch)));
    recover();
    EXPECT_EQ(device().state, DeviceState::available);
}

TEST_F(FieldComplaint, No9ReleaseStuckBecauseTheDeviceVanished) {
    const auto id = lend_to("a");
    Hello without = lender();
    without.devices.erase(without.devices.begin());
    ASSERT_TRUE(say(without, false));
    EXPECT_TRUE(has_ended(loan(id).state));
    ASSERT_TRUE(say(lender(), false));
    recover();
    EXPECT_EQ(device().state, DeviceState::available);
}

// A search that takes unbounded time, also where nothing fits.
TEST_F(FieldComplaint, No12SearchIsBounded) {
    Hello big = lender();
    for (size_t i = big.devices.size(); i < options.devices_per_host; ++i) {
        big.devices.push_back(big.devices[0]);
        big.devices.back().name = fmt::format("more{}", i);
        big.devices.back().identity.serial = big.devices.back().name;
    }
    ASSERT_TRUE(say(big));
    // Nothing fits, and there is no wait: a refusal, and no record of it but the trail's.
    BorrowRequest huge = request("a", "");
    huge.devices.assign(options.devices_per_request, Selector());
    for (Selector& selector : huge.devices) {
        selector.kind = "nvme";
        selector.least_capacity_bytes = 1;
    }
    const auto refused = pool->borrow(huge, now);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Errc::not_found);
    EXPECT_EQ(pool->ledger().loans.size(), 0u);
    // More wishes than devices: each input hands out what there is, and leaves a bounded rest for later.
    for (int i = 0; i < 8; ++i) {
        BorrowRequest many = request("a", "");
        many.devices.assign(options.devices_per_request, Selector());
        for (Selector& selector : many.devices)
            selector.kind = "nvme";
        ASSERT_TRUE(pool->borrow(waiting(many), now));
        const auto outcome = pool->outcome();
        ASSERT_TRUE(outcome);
        EXPECT_LE(outcome->orders.size(), 256u);
        disk.apply(*outcome);
        pool->commit();
    }
    huge.devices.resize(options.devices_per_request + 1);
    EXPECT_EQ(pool->borrow(huge, now).error().code(), Errc::invalid_argument);
}

// An empty selector that means everything.
TEST_F(FieldComplaint, No12EmptySelectorMeansNothing) {
    const auto id = lend_to("a");
    BorrowRequest empty = request("b", "");
    EXPECT_EQ(pool->borrow(empty, now).error().code(), Errc::invalid_argument);
    EXPECT_FALSE(pool->explain(empty, now).allowed);
    EXPECT_FALSE(pool->give_back({"", owner()}, now));
    EXPECT_FALSE(pool->reclaim({"", "", owner()}, now));
    EXPECT_FALSE(pool->renew({"", 1, owner()}, now));
    EXPECT_FALSE(pool->reassign({"", "b", "", owner(), true}, now));
    EXPECT_FALSE(pool->drain({"", true, true, "", owner()}, now));
    EXPECT_FALSE(pool->quarantine({"", "why", owner()}, now));
    EXPECT_FALSE(pool->restore({"", owner()}, now));
    EXPECT_FALSE(pool->keep_local({"", owner()}, now));
    EXPECT_FALSE(pool->reset({"", owner()}, now));
    EXPECT_EQ(loan(id).state, LoanState::active);
    EXPECT_EQ(free_devices(), 1u);
}

// A request that acts on many where one was meant.
TEST_F(FieldComplaint, No12NothingActsOnMoreThanOne) {
    const auto id = lend_to("a");
    for (const char* many : {"*", "store/*", "80000,80001", "80000 80001", "store/", "loan:", "loan:*"}) {
        EXPECT_FALSE(pool->drain({many, true, true, "", owner()}, now)) << many;
        EXPECT_FALSE(pool->quarantine({many, "why", owner()}, now)) << many;
        EXPECT_FALSE(pool->reclaim({many, "", owner()}, now)) << many;
        EXPECT_FALSE(pool->give_back({many, owner()}, now)) << many;
    }
    EXPECT_EQ(loan(id).state, LoanState::active);
    // A host whose name is a device's number as well: who is meant is asked, not guessed.
    ASSERT_TRUE(say(borrower("80001", 9)));
    const auto unclear = pool->drain({"80001", true, true, "", owner()}, now);
    ASSERT_FALSE(unclear);
    EXPECT_THAT(unclear.error().message(), HasSubstr("name the device as HOST/NAME"));
}

// No pre-emption.
TEST_F(FieldComplaint, No14PreemptionWithAGrace) {
    Rule low;
    low.name = "low";
    low.hosts = {"a"};
    low.preemptible = true;
    low.grace_s = 10;
    Rule high;
    high.name = "high";
    high.preempts = true;
    high.priority = 5;
    site.rules = {low, high};
    ASSERT_TRUE(pool->apply_site(site, "text", owner(), now));
    BorrowRequest first = request("a");
    first.caller = {"ann", false};
    ASSERT_TRUE(pool->borrow(first, now));
    keep();
    done(prepare);
    done(attach);
    BorrowRequest second = waiting(request("b"));
    second.caller = {"bob", false};
    ASSERT_TRUE(pool->borrow(second, now));
    keep();
    EXPECT_EQ(loan({1}).state, LoanState::active);
    pass(10'000);
    EXPECT_EQ(loan({1}).state, LoanState::quiescing);
    done(detach);
    recover();
    EXPECT_EQ(loan({2}).state, LoanState::preparing);
}

// Stuck in detaching after the death of a node, even with force.
TEST_F(FieldComplaint, No14ReleaseAfterNodeDeath) {
    const auto id = lend_to("a");
    disconnect("a");
    disconnect("store");
    force_away();
    EXPECT_EQ(loan(id).state, LoanState::detaching);
    pass(options.lender_grace_ms);
    EXPECT_TRUE(has_ended(loan(id).state));
    EXPECT_EQ(pool->ledger().steps.size(), 0u);
    EXPECT_EQ(device().state, DeviceState::offline);
    ASSERT_TRUE(say(lender_now(id, loan(id).epoch)));
    recover();
    EXPECT_EQ(device().state, DeviceState::available);
}

} // namespace
} // namespace lanepool::pool
