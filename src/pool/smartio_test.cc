// SPDX-License-Identifier: Apache-2.0
//
// Loans to applications: who may have one, beside whom, and in whose name agents ask.
#include "pool/smartio_bench.h"

#include <gmock/gmock.h>

namespace lanepool::pool {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

using SmartioTest = testing::SmartioBench;

TEST_F(SmartioTest, NeedsNoGuest) {
    Hello hello = borrower("d", 4);
    hello.guests.clear();
    ASSERT_TRUE(say(hello));
    const LoanId id = use(wish("d"));
    EXPECT_EQ(loan(id).state, LoanState::active);
    EXPECT_EQ(loan(id).guest, "");
    EXPECT_EQ(loan(id).access_model, AccessModel::smartio);
    give_back(id);
    EXPECT_EQ(loan(id).state, LoanState::returned);
    EXPECT_EQ(device().state, DeviceState::available);
}

TEST_F(SmartioTest, TakesNoGuest) {
    BorrowRequest with_guest = wish("a");
    with_guest.guest = "g";
    EXPECT_THAT(refusal(with_guest, Errc::invalid_argument), HasSubstr("name no guest"));
}

TEST_F(SmartioTest, LetsAHostUseItsOwnDevice) {
    const LoanId id = use(wish("store"));
    EXPECT_EQ(loan(id).state, LoanState::active);
    EXPECT_EQ(loan(id).borrower, "store");
    give_back(id);
    EXPECT_EQ(device().state, DeviceState::available);
}

TEST_F(SmartioTest, LetsNoGuestHaveADeviceOfItsOwnHost) {
    Hello hello = lender();
    hello.guests = {"g"};
    ASSERT_TRUE(say(hello));
    EXPECT_THAT(refusal(request("store"), Errc::not_supported), HasSubstr("sits in host store itself"));
}

TEST_F(SmartioTest, FindsAnyDeviceOfTheOwnHostToo) {
    BorrowRequest any = wish("store");
    any.devices = {{}};
    any.devices[0].kind = "nvme";
    EXPECT_EQ(loan(use(any)).state, LoanState::active);
}

TEST_F(SmartioTest, IsServedFromTheQueueByTheOwnHostWhereAGuestIsNot) {
    Hello hello = lender();
    hello.guests = {"g"};
    ASSERT_TRUE(say(hello));
    const LoanId first = use(wish("store"));
    const LoanId other = use(wish("store", false, "80001"));
    Hello far = lender();
    far.host = "far";
    far.partition = 9;
    ASSERT_TRUE(say(far)); // so that a guest of "store" has something to wait for
    const LoanId third = use(wish("far", false, "80002"));
    const LoanId fourth = use(wish("far", false, "80003"));
    BorrowRequest to_guest = request("store", "");
    to_guest.devices[0].kind = "nvme";
    to_guest.wait_s = 100;
    BorrowRequest to_application = to_guest;
    to_application.access_model = AccessModel::smartio;
    const auto guest_waits = ask(to_guest);
    const auto application_waits = ask(to_application);
    ASSERT_TRUE(guest_waits && application_waits);
    give_back(first);
    EXPECT_EQ(loan(*guest_waits).state, LoanState::queued);
    EXPECT_EQ(loan(*application_waits).fdid, Fdid{0x80000});
    for (const LoanId id : {other, third, fourth})
        EXPECT_EQ(loan(id).state, LoanState::active);
}

TEST_F(SmartioTest, TellsAgentsThatItIsForAnApplication) {
    ASSERT_TRUE(ask(wish("a", true)));
    const Order prepare = take(StepKind::prepare);
    EXPECT_EQ(prepare.access_model, AccessModel::smartio);
    EXPECT_TRUE(prepare.shared);
    answer(prepare);
    const Order attach = take(StepKind::attach);
    EXPECT_EQ(attach.access_model, AccessModel::smartio);
    EXPECT_TRUE(attach.shared);
    EXPECT_EQ(attach.guest, "");
}

TEST_F(SmartioTest, SharesNothingWithAGuest) {
    BorrowRequest shared = request("a");
    shared.shared = true;
    EXPECT_THAT(refusal(shared, Errc::invalid_argument), HasSubstr("only smartio shares"));
}

TEST_F(SmartioTest, IsRefusedWhileAGuestHasTheDevice) {
    lend_to("a");
    const auto text = refusal(wish("b"));
    EXPECT_THAT(text, HasSubstr("is lent to host a (guest g) by loan 1"));
    EXPECT_THAT(text, HasSubstr("access model lending has it, and lets in nobody by smartio"));
}

TEST_F(SmartioTest, KeepsOutGuests) {
    use(wish("a", true));
    const auto text = refusal(request("b"));
    EXPECT_THAT(text, HasSubstr("is lent to host a (smartio, shared) by loan 1"));
    EXPECT_THAT(text, HasSubstr("access model smartio has it, and lets in nobody by lending"));
}

TEST_F(SmartioTest, SharesNothingThatIsHadExclusively) {
    use(wish("a"));
    const auto text = refusal(wish("b", true));
    EXPECT_THAT(text, HasSubstr("(smartio, exclusive)"));
    EXPECT_THAT(text, HasSubstr("it is had exclusively, and shared with nobody"));
}

TEST_F(SmartioTest, CannotBeHadExclusivelyWhereItIsShared) {
    use(wish("a", true));
    EXPECT_THAT(refusal(wish("b")), HasSubstr("it is shared, and cannot be had exclusively"));
}

TEST_F(SmartioTest, IsNotReassigned) {
    const LoanId id = use(wish("a"));
    const auto moved = pool->reassign({fmt::format("loan:{}", id), "b", "g", owner()}, now);
    ASSERT_FALSE(moved);
    EXPECT_EQ(moved.error().code(), Errc::not_supported);
}

TEST_F(SmartioTest, IsInTheTrailAsWhatItIs) {
    ASSERT_TRUE(ask(wish("a", true)));
    const auto borrowed = std::find_if(disk.trail.begin(), disk.trail.end(),
                                       [](const AuditEntry& entry) { return entry.action == "borrow"; });
    ASSERT_NE(borrowed, disk.trail.end());
    EXPECT_THAT(borrowed->reason, HasSubstr("for host a, smartio, shared"));
}

// ---- agents that ask in somebody's name

TEST_F(SmartioTest, IsAskedForInAUsersName) {
    const LoanId id = use(named(wish("a"), "eve", "a"));
    EXPECT_EQ(loan(id).requested_by, "eve@a");
    EXPECT_EQ(disk.trail.back().actor, "agent:a");
    const auto borrowed = std::find_if(disk.trail.begin(), disk.trail.end(),
                                       [](const AuditEntry& entry) { return entry.action == "borrow"; });
    EXPECT_EQ(borrowed->actor, "eve@a");
}

TEST_F(SmartioTest, IsOfTheHostThatIsAskedForWhereAnAgentMayBeAnyHosts) {
    const LoanId id = use(named(wish("b"), "eve", "*"));
    EXPECT_EQ(loan(id).requested_by, "eve@b");
    ASSERT_TRUE(pool->renew({fmt::format("loan:{}", id), 5, {"eve", false, Role::user, "*"}}, now));
    keep();
    EXPECT_EQ(disk.trail.at(disk.trail.size() - 2).actor, "eve@b");
}

TEST_F(SmartioTest, IsAskedForByAgentsOfTheBorrowerOnly) {
    EXPECT_THAT(refusal(named(wish("b"), "eve", "a"), Errc::permission_denied),
                HasSubstr("the agent of host a may not borrow in the name of eve"));
    EXPECT_EQ(disk.trail.back().actor, "eve@a");
    EXPECT_EQ(disk.trail.back().action, "borrow-refused");
}

TEST_F(SmartioTest, IsAllThatAgentsAskFor) {
    EXPECT_THAT(refusal(named(request("a"), "eve", "a"), Errc::permission_denied),
                HasSubstr("loans of access model smartio"));
    EXPECT_THAT(pool->explain(named(request("a"), "eve", "a"), now).why.at(0), HasSubstr("may not borrow"));
}

TEST_F(SmartioTest, IsReturnedAndRenewedByTheAgentOfItsBorrowerOnly) {
    const LoanId id = use(wish("a"));
    const LoanId lent = lend_to("a", "80001");
    const Caller here{"eve", false, Role::user, "a"};
    const Caller elsewhere{"eve", false, Role::user, "b"};
    const std::string text = fmt::format("loan:{}", id);
    const std::string guests = fmt::format("loan:{}", lent);
    EXPECT_FALSE(pool->give_back({text, elsewhere}, now));
    EXPECT_FALSE(pool->renew({text, 5, elsewhere}, now));
    EXPECT_FALSE(pool->give_back({guests, here}, now));
    EXPECT_FALSE(pool->renew({guests, 5, here}, now));
    EXPECT_TRUE(pool->renew({text, 5, here}, now));
    EXPECT_TRUE(pool->give_back({text, here}, now));
    keep();
    EXPECT_THAT(loan(id).reason, HasSubstr("returned by eve@a"));
    EXPECT_EQ(loan(lent).state, LoanState::active);
}

TEST_F(SmartioTest, IsJudgedAsTheSiteKnowsTheUser) {
    Site rules;
    rules.tenants = {{"physics", 1, 0}, {"art", 1, 0}};
    rules.users = {{"eve", "physics", Role::admin}, {"bob", "art", Role::user}};
    Rule rule;
    rule.name = "physicists";
    rule.tenants = {"physics"};
    rule.users = {"eve"};
    rule.allow = true;
    rules.rules = {rule};
    ASSERT_TRUE(pool->apply_site(rules, "text", owner(), now));
    keep();
    const LoanId id = use(named(wish("a"), "eve", "a"));
    EXPECT_EQ(loan(id).tenant, "physics");
    EXPECT_EQ(loan(id).rule, "physicists");
    EXPECT_THAT(refusal(named(wish("b"), "bob", "b"), Errc::permission_denied),
                HasSubstr("no rule of the site lets bob@b of tenant art borrow"));
    const auto bobs = pool->give_back({fmt::format("loan:{}", id), {"bob", false, Role::user, "a"}}, now);
    ASSERT_FALSE(bobs);
    EXPECT_THAT(bobs.error().message(), HasSubstr("ask eve@a or an operator"));
    // An admin by the site is none by an agent's word.
    const auto taken =
        pool->give_back({fmt::format("loan:{}", id), {"eve", false, Role::user, "a"}, 0, true}, now);
    EXPECT_FALSE(taken);
}

TEST_F(SmartioTest, WaitsAsTheSiteKnowsTheUser) {
    Site rules;
    rules.tenants = {{"physics", 1, 0}};
    rules.users = {{"eve", "physics", Role::user}};
    Rule rule;
    rule.name = "physicists";
    rule.users = {"eve"};
    rule.allow = true;
    rules.rules = {rule};
    ASSERT_TRUE(pool->apply_site(rules, "text", owner(), now));
    keep();
    const LoanId holder = use(wish("b"));
    BorrowRequest waits = named(wish("a"), "eve", "a");
    waits.wait_s = 100;
    const auto id = ask(waits);
    ASSERT_TRUE(id);
    ASSERT_TRUE(pool->apply_site(rules, "text again", owner(), now));
    keep();
    EXPECT_EQ(loan(*id).state, LoanState::queued);
    give_back(holder);
    EXPECT_EQ(loan(*id).state, LoanState::preparing);
    EXPECT_EQ(loan(*id).tenant, "physics");
}

} // namespace
} // namespace lanepool::pool
