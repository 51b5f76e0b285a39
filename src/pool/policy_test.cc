// SPDX-License-Identifier: Apache-2.0
//
// What a site lets whom do, through the pool.
#include "pool/test_bench.h"

#include <gmock/gmock.h>

namespace lanepool::pool {
namespace {

using ::testing::HasSubstr;
using enum StepKind;

Selector of_kind(const std::string& kind) {
    Selector selector;
    selector.kind = kind;
    return selector;
}

class PolicyTest : public testing::Bench {
  protected:
    PolicyTest() {
        site.tenants = {{"red", 1, 0}, {"blue", 1, 0}};
        site.users = {{"ann", "red", Role::user},
                      {"bob", "blue", Role::user},
                      {"olga", "", Role::operator_},
                      {"adam", "", Role::admin}};
        site.classes = {{"drives", {of_kind("nvme")}}, {"gpus", {of_kind("gpu")}}};
        Rule rule;
        rule.name = "drives-for-red";
        rule.tenants = {"red"};
        rule.hosts = {"a", "b"};
        rule.classes = {"drives"};
        rule.longest_s = 3600;
        rule.default_s = 600;
        rule.priority = 5;
        rule.highest_priority = 10;
        rule.grace_s = 7;
        site.rules = {rule};
        restart();
        connect_all();
    }

    void use(const Site& other) {
        ASSERT_TRUE(pool->apply_site(other, "text", owner(), now));
        keep();
    }

    Result<LoanId> borrow_as(const std::string& user, const std::string& host = "a",
                             const std::string& device = "80000",
                             std::optional<int64_t> duration_s = std::nullopt) {
        BorrowRequest wish = request(host, device);
        wish.duration_s = duration_s;
        wish.caller = {user, false};
        return borrow_this(wish);
    }
    Result<LoanId> borrow_this(const BorrowRequest& wish) {
        const auto loans = pool->borrow(wish, now);
        keep();
        if (!loans) return tl::unexpected<Error>(loans.error());
        return loans->front();
    }
    LoanId lend_as(const std::string& user, const std::string& device = "80000") {
        const auto id = borrow_as(user, "a", device);
        EXPECT_TRUE(id) << id.error().message();
        done(StepKind::prepare);
        done(StepKind::attach);
        return id ? *id : LoanId{};
    }

    template <class Value>
    static void expect_denied(const Result<Value>& result, const std::string& part) {
        ASSERT_FALSE(result);
        EXPECT_EQ(result.error().code(), Errc::permission_denied);
        EXPECT_THAT(result.error().message(), HasSubstr(part));
    }
};

TEST_F(PolicyTest, ALoanIsOnTheTermsOfItsRule) {
    const auto id = borrow_as("ann");
    ASSERT_TRUE(id) << id.error().message();
    EXPECT_EQ(loan(*id).rule, "drives-for-red");
    EXPECT_EQ(loan(*id).tenant, "red");
    EXPECT_EQ(loan(*id).requested_by, "ann");
    EXPECT_EQ(loan(*id).duration_s, 600);
    EXPECT_EQ(loan(*id).priority, 5);
    EXPECT_EQ(loan(*id).grace_s, 7);
}

TEST_F(PolicyTest, ARefusalNamesWhatTheRulesWouldAllow) {
    expect_denied(borrow_as("ann", "c"), "no rule of the site lets ann of tenant red borrow device 80000");
    expect_denied(borrow_as("ann", "c"), "he may have: class drives for host a, b (rule drives-for-red)");
    expect_denied(borrow_as("bob"), "he may have: nothing");
    EXPECT_EQ(disk.trail.back().action, "borrow-refused");
    EXPECT_EQ(disk.trail.back().actor, "bob");
    EXPECT_EQ(pool->ledger().loans.size(), 0u);
}

TEST_F(PolicyTest, SomebodyUnknownHasNoTenant) { expect_denied(borrow_as("zoe"), "lets zoe borrow"); }

TEST_F(PolicyTest, TheFirstRuleThatFitsDecides) {
    Site other = site;
    Rule no;
    no.name = "not-ann";
    no.users = {"ann"};
    no.allow = false;
    other.rules.insert(other.rules.begin(), no);
    use(other);
    expect_denied(borrow_as("ann"), "rule not-ann does not let ann of tenant red");
}

TEST_F(PolicyTest, TheOwnerMayDoEverything) {
    const auto id = borrow("c", "80000", 100'000);
    ASSERT_TRUE(id) << id.error().message();
    EXPECT_EQ(loan(*id).rule, "(owner)");
}

TEST_F(PolicyTest, WithoutRulesEverybodyMayBorrow) {
    use(Site());
    const auto id = borrow_as("zoe", "c");
    ASSERT_TRUE(id) << id.error().message();
    EXPECT_EQ(loan(*id).rule, "");
    EXPECT_EQ(loan(*id).duration_s, 0);
}

TEST_F(PolicyTest, LimitsHowLongALoanLasts) {
    for (const int64_t too_long : {3601, 0}) {
        const auto refused = borrow_as("ann", "a", "80000", too_long);
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.error().code(), Errc::out_of_range);
        EXPECT_THAT(refused.error().message(),
                    HasSubstr("rule drives-for-red lets a loan last 3600 s at most"));
    }
    EXPECT_TRUE(borrow_as("ann", "a", "80000", 3600));
}

TEST_F(PolicyTest, ARuleWithALongestButNoDefaultLendsForTheLongest) {
    Site other = site;
    other.rules[0].default_s = 0;
    use(other);
    EXPECT_EQ(loan(*borrow_as("ann")).duration_s, 3600);
}

TEST_F(PolicyTest, LimitsThePriority) {
    BorrowRequest wish = request("a");
    wish.duration_s = 60;
    wish.caller = {"ann", false};
    for (const int32_t wrong : {11, -1001}) {
        wish.priority = wrong;
        const auto refused = borrow_this(wish);
        ASSERT_FALSE(refused);
        EXPECT_THAT(refused.error().message(),
                    HasSubstr("rule drives-for-red allows priorities from -1000 to 10"));
    }
    wish.priority = 10;
    EXPECT_EQ(loan(*borrow_this(wish)).priority, 10);
}

// What a host's own kernel borrows in.
TEST(PolicyDma, TheFirstOfTheRuleThatTheHostOffersIsTaken) {
    using enum DmaMode;
    Rule rule;
    rule.name = "r";
    rule.dma = {direct, bounce};
    const Policy policy{Site()};
    const Who user{"u", "", Role::user};
    Host host;
    host.name = "h";
    host.dma_modes = {bounce, iommu, direct};
    EXPECT_EQ(*policy.dma(user, rule, host, none), direct);
    EXPECT_EQ(*policy.dma(user, rule, host, bounce), bounce);
    EXPECT_EQ(policy.dma(user, rule, host, iommu).error().code(), Errc::permission_denied);
    host.dma_modes = {iommu, bounce};
    EXPECT_EQ(*policy.dma(user, rule, host, none), bounce);
    EXPECT_EQ(policy.dma(user, rule, host, direct).error().code(), Errc::failed_precondition);
    host.dma_modes = {iommu};
    EXPECT_EQ(policy.dma(user, rule, host, none).error().code(), Errc::failed_precondition);
    host.dma_modes.clear();
    EXPECT_EQ(policy.dma(user, rule, host, none).error().code(), Errc::failed_precondition);
}

TEST(PolicyDma, TheOwnerIsHeldOnlyByWhatTheHostOffers) {
    using enum DmaMode;
    Rule rule;
    rule.dma = {bounce};
    const Policy policy{Site()};
    Who owner{"root", "", Role::user};
    owner.owner = true;
    Host host;
    host.dma_modes = {iommu, direct};
    EXPECT_EQ(*policy.dma(owner, rule, host, none), iommu);
    EXPECT_EQ(*policy.dma(owner, rule, host, direct), direct);
    EXPECT_FALSE(policy.dma(owner, rule, host, bounce));
    EXPECT_TRUE(policy.check_dma(owner, rule, direct));
}

TEST(PolicyDma, ALoanWhoseRuleIsGoneIsOfWhatHoldsWithoutRules) {
    Rule rule;
    rule.name = "r";
    rule.dma = {DmaMode::direct};
    Site site;
    site.rules = {rule};
    const Policy policy{site};
    Loan loan;
    loan.rule = "r";
    EXPECT_EQ(policy.rule_of(loan).dma, rule.dma);
    loan.rule = "gone";
    EXPECT_EQ(policy.rule_of(loan).dma, Rule().dma);
}

TEST_F(PolicyTest, LimitsTheLoansOfARule) {
    Site other = site;
    other.rules[0].most_loans = 1;
    use(other);
    lend_as("ann");
    const auto refused = borrow_as("ann", "b", "80001");
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Errc::no_space);
    EXPECT_THAT(refused.error().message(), HasSubstr("rule drives-for-red lets tenant red have 1 loans"));
    EXPECT_TRUE(borrow("b", "80001")); // the owner
}

TEST_F(PolicyTest, LimitsTheLoansOfATenant) {
    Site other = site;
    other.tenants[0].most_loans = 1;
    use(other);
    const auto id = lend_as("ann");
    const auto refused = borrow_as("ann", "b", "80001");
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message(), HasSubstr("tenant red has 1 loans and may have 1"));
    ASSERT_TRUE(pool->reclaim({fmt::format("loan:{}", id), "", owner()}, now));
    keep();
    recover();
    EXPECT_TRUE(borrow_as("ann", "b", "80001"));
}

TEST_F(PolicyTest, WantsTheIsolationThatTheRuleNames) {
    Site other = site;
    other.rules[0].needs_iommu = true;
    use(other);
    const auto refused = borrow_as("ann");
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Errc::failed_precondition);
    EXPECT_THAT(refused.error().message(), HasSubstr("host store has no IOMMU in use"));
    Hello isolated = lender();
    isolated.devices[0].iommu = true;
    ASSERT_TRUE(say(isolated, false));
    EXPECT_TRUE(borrow_as("ann"));
}

TEST_F(PolicyTest, WantsTheQualificationThatTheRuleNames) {
    Site other = site;
    other.rules[0].needs_qualification = true;
    use(other);
    EXPECT_EQ(borrow_as("ann").error().code(), Errc::failed_precondition);
    Hello qualified = lender();
    qualified.devices[0].qualified = true;
    ASSERT_TRUE(say(qualified, false));
    EXPECT_TRUE(borrow_as("ann"));
}

TEST_F(PolicyTest, HostsMayBeOnlyLendersOrOnlyBorrowers) {
    Site other = site;
    other.hosts = {{"a", {}, true, false}};
    use(other);
    expect_denied(borrow_as("ann"), "host a may not borrow");
    other.hosts = {{"store", {}, false, true}};
    use(other);
    expect_denied(borrow_as("ann"), "host store does not lend");
}

TEST_F(PolicyTest, TenantsReturnAndRenewOnlyTheirOwn) {
    const auto id = lend_as("ann");
    const std::string name = fmt::format("loan:{}", id);
    expect_denied(pool->give_back({name, {"bob", false}}, now), "it is tenant red's; ask ann or an operator");
    expect_denied(pool->renew({name, 60, {"bob", false}}, now), "may not renew loan 1");
    expect_denied(pool->reassign({name, "b", "", {"bob", false}}, now), "may not reassign loan 1");
    EXPECT_TRUE(pool->renew({name, 60, {"ann", false}}, now));
    EXPECT_TRUE(pool->give_back({name, {"olga", false}}, now));
    keep();
    EXPECT_EQ(loan(id).reason, "returned by olga");
}

TEST_F(PolicyTest, OnlyOperatorsActOnDevicesAndHosts) {
    const auto denied_to = [&](const Caller& caller) {
        expect_denied(pool->reclaim({"80000", "", caller}, now), "the role operator");
        expect_denied(pool->reset({"80000", caller}, now), "the role operator");
        expect_denied(pool->drain({"store", true, false, "", caller}, now), "the role operator");
        expect_denied(pool->quarantine({"80000", "why", caller}, now), "the role operator");
        expect_denied(pool->restore({"80000", caller}, now), "the role operator");
        expect_denied(pool->keep_local({"80000", caller}, now), "the role operator");
    };
    lend_as("ann");
    denied_to({"ann", false});
    denied_to({"nobody", false});
    expect_denied(pool->give_back({"80000", {"ann", false}, 0, true}, now), "out of the pool");
    EXPECT_EQ(device().state, DeviceState::lent);
    EXPECT_TRUE(pool->reclaim({"80000", "", {"olga", false}}, now));
}

TEST_F(PolicyTest, OnlyAdminsChangeTheSite) {
    expect_denied(pool->apply_site(Site(), "", {"olga", false}, now), "the role admin");
    keep();
    EXPECT_EQ(disk.trail.back().action, "apply-site-refused");
    EXPECT_EQ(pool->site(), site);
    ASSERT_TRUE(pool->apply_site(Site(), "", {"adam", false}, now));
    EXPECT_EQ(pool->site(), Site());
}

TEST_F(PolicyTest, ACertificateIsTheMostThatItsHolderMayDo) {
    EXPECT_EQ(pool->who({"olga", false, Role::user}).role, Role::user);
    EXPECT_EQ(pool->who({"adam", false, Role::operator_}).role, Role::operator_);
    EXPECT_EQ(pool->who({"adam", false, Role::admin}).role, Role::admin);
    const auto drained =
        pool->drain({.host_or_device = "a", .reason = "x", .caller = {"olga", false, Role::user}}, now);
    ASSERT_FALSE(drained.has_value());
    EXPECT_THAT(drained.error().message(), HasSubstr("the certificate is a user's"));
}

TEST_F(PolicyTest, WhomTheSiteNamesHasNoMoreThanThat) {
    EXPECT_EQ(pool->who({"ann", false, Role::admin}).role, Role::user);
    EXPECT_EQ(pool->who({"ann", false, Role::admin}).tenant, "red");
    EXPECT_EQ(pool->who({"olga", false, Role::admin}).role, Role::operator_);
}

TEST_F(PolicyTest, WhomTheSiteDoesNotNameHasTheRoleOfTheCertificate) {
    EXPECT_EQ(pool->who({"zoe", false, Role::admin}).role, Role::admin);
    EXPECT_EQ(pool->who({"zoe", false, Role::user}).role, Role::user);
    EXPECT_EQ(pool->who({"zoe", false}).role, Role::user);
    EXPECT_FALSE(pool->who({"zoe", false, Role::admin}).owner);
}

TEST_F(PolicyTest, AnAppliedSiteIsStoredAndAudited) {
    Site other = site;
    other.rules[0].longest_s = 10;
    other.users.pop_back();
    ASSERT_TRUE(pool->apply_site(other, "the text", {"adam", false}, now));
    const auto outcome = pool->outcome();
    EXPECT_EQ(outcome->site, "the text");
    ASSERT_EQ(outcome->audit.size(), 1u);
    EXPECT_EQ(outcome->audit[0].action, "apply-site");
    EXPECT_EQ(outcome->audit[0].actor, "adam");
    EXPECT_EQ(outcome->audit[0].reason, "users -1 +0, rules -1 +1");
}

TEST_F(PolicyTest, ASiteThatIsNotStoredIsNotApplied) {
    ASSERT_TRUE(pool->apply_site(Site(), "", owner(), now));
    ASSERT_TRUE(pool->apply_site(Site(), "", owner(), now)); // and once more in the same outcome
    pool->rollback();
    EXPECT_EQ(pool->site(), site);
    EXPECT_TRUE(pool->outcome()->empty());
    expect_denied(borrow_as("bob"), "no rule");
}

TEST_F(PolicyTest, RunningLoansGoOnAsTheyWereGranted) {
    const auto id = lend_as("ann");
    Site other = site;
    other.rules[0].tenants = {"blue"};
    use(other);
    EXPECT_EQ(loan(id).state, LoanState::active);
    EXPECT_EQ(loan(id).grace_s, 7);
    expect_denied(pool->renew({"80000", 60, {"ann", false}}, now), "no rule"); // but a renewal is judged anew
}

TEST_F(PolicyTest, ARenewalKeepsToTheLongest) {
    const auto id = lend_as("ann");
    EXPECT_EQ(pool->renew({"80000", 3601, {"ann", false}}, now).error().code(), Errc::out_of_range);
    EXPECT_EQ(pool->renew({"80000", 0, {"ann", false}}, now).error().code(), Errc::out_of_range);
    ASSERT_TRUE(pool->renew({"80000", 3600, {"ann", false}}, now));
    EXPECT_EQ(loan(id).due_us, now.unix_us + 3'600'000'000);
}

TEST_F(PolicyTest, AReassignedLoanStaysItsTenants) {
    lend_as("ann");
    expect_denied(pool->reassign({"80000", "c", "", {"ann", false}}, now), "no rule");
    const auto second = pool->reassign({"80000", "b", "", {"ann", false}}, now);
    ASSERT_TRUE(second) << second.error().message();
    keep();
    EXPECT_EQ(loan(*second).tenant, "red");
    EXPECT_EQ(loan(*second).rule, "drives-for-red");
    EXPECT_EQ(loan(*second).duration_s, 600);
}

TEST_F(PolicyTest, AnEndedLoanIsChargedToItsTenant) {
    const auto id = lend_as("ann");
    pass(100'000);
    ASSERT_TRUE(pool->reclaim({fmt::format("loan:{}", id), "", owner()}, now));
    keep();
    recover();
    ASSERT_TRUE(pool->ledger().usage.find("red"));
    const Usage used = *pool->ledger().usage.find("red");
    EXPECT_NEAR(static_cast<double>(used.used_s), 100, 1);
    restart();
    EXPECT_EQ(*pool->ledger().usage.find("red"), used);
}

} // namespace
} // namespace lanepool::pool
