// SPDX-License-Identifier: Apache-2.0
//
// Loans to a host's own kernel: who is chosen to receive a function, in which DMA mode, and returns that ask
// first.
#include "pool/test_bench.h"

#include <gmock/gmock.h>

namespace lanepool::pool {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using enum DmaMode;

// Beside the Bench's hosts: "w" and "v", whole hosts without guests, and "x", which has both.
class ReceiversTest : public testing::Bench {
  protected:
    ReceiversTest() {
        connect_all();
        EXPECT_TRUE(say(whole("w", 4)));
        EXPECT_TRUE(say(whole("v", 5, {iommu, direct})));
        Hello both = whole("x", 6);
        both.guests = {"g"};
        EXPECT_TRUE(say(both));
        sent.clear();
    }

    static Hello whole(const std::string& host, uint32_t partition,
                       std::vector<DmaMode> modes = {bounce, iommu}) {
        Hello hello = borrower(host, partition);
        hello.guests.clear();
        hello.dma_modes = std::move(modes);
        return hello;
    }

    static BorrowRequest wish(const std::string& host, DmaMode dma, const std::string& guest = "") {
        BorrowRequest asked = request(host, "80000", 0, guest);
        asked.dma = dma;
        return asked;
    }

    Result<LoanId> ask(const BorrowRequest& asked) {
        auto loans = pool->borrow(asked, now);
        keep();
        if (!loans) return tl::unexpected<Error>(loans.error());
        return loans->front();
    }

    std::string refusal(const BorrowRequest& asked, Errc code) {
        const auto refused = ask(asked);
        if (refused) return "it was granted";
        EXPECT_EQ(refused.error().code(), code);
        return refused.error().message();
    }

    DmaMode mode_of(const BorrowRequest& asked) {
        const auto id = ask(asked);
        EXPECT_TRUE(id) << id.error().message();
        return id ? loan(*id).dma : none;
    }

    LoanId give_back(LoanId id, bool to_local = false) {
        const auto back = pool->give_back({fmt::format("loan:{}", id), owner(), 0, to_local}, now);
        EXPECT_TRUE(back) << back.error().message();
        keep();
        return id;
    }

    void answer_busy(const Order& order, const std::string& who = "/dev/nvme0n1 is mounted on /srv") {
        const Step& step = order.step;
        pool->answered(step.host, {step.id, step.loan, step.epoch, step.kind, false, "busy", who}, now);
        keep();
    }

    size_t waiting(StepKind kind) {
        return static_cast<size_t>(std::count_if(
            sent.begin(), sent.end(), [&](const Order& order) { return order.step.kind == kind; }));
    }

    std::vector<std::string> trail_of(LoanId id) {
        std::vector<std::string> told;
        for (const auto& entry : disk.trail)
            if (entry.loan == id && entry.action == "transition" && entry.subject.starts_with("loan:"))
                told.push_back(entry.to);
        return told;
    }

    void set_site(const Site& changed) {
        EXPECT_TRUE(pool->apply_site(changed, "site", owner(), now));
        keep();
    }

    // A user who may borrow, by this one rule.
    static Site one_rule(std::vector<DmaMode> dma) {
        Site site;
        Rule rule;
        rule.name = "all";
        rule.dma = std::move(dma);
        site.rules = {rule};
        return site;
    }
    static BorrowRequest by_user(BorrowRequest asked) {
        asked.caller = {"u", false};
        return asked;
    }
};

// ---- who receives it

TEST_F(ReceiversTest, AWholeHostBorrowsWithItsOwnKernel) {
    const auto id = borrow("w");
    ASSERT_TRUE(id) << id.error().message();
    done(StepKind::prepare);
    const Order order = take(StepKind::attach);
    EXPECT_EQ(order.guest, "");
    EXPECT_EQ(order.dma, bounce);
    EXPECT_EQ(order.access_model, AccessModel::lending);
    EXPECT_EQ(order.step.host, "w");
    EXPECT_TRUE(is_to_own_kernel(loan(*id)));
}

TEST_F(ReceiversTest, AGuestThatIsNamedComesBeforeTheHostsOwnKernel) {
    const auto to_guest = ask(wish("x", none, "g"));
    ASSERT_TRUE(to_guest) << to_guest.error().message();
    EXPECT_EQ(loan(*to_guest).guest, "g");
    EXPECT_EQ(loan(*to_guest).dma, none);
    const auto to_kernel = borrow("x", "80001");
    ASSERT_TRUE(to_kernel) << to_kernel.error().message();
    EXPECT_EQ(loan(*to_kernel).guest, "");
    EXPECT_EQ(loan(*to_kernel).dma, bounce);
}

TEST_F(ReceiversTest, AHostWithoutTheModuleBorrowsForItsOnlyGuest) {
    const auto id = borrow("a");
    ASSERT_TRUE(id);
    EXPECT_EQ(loan(*id).guest, "g");
    done(StepKind::prepare);
    EXPECT_EQ(take(StepKind::attach).dma, none);
}

TEST_F(ReceiversTest, AHostWithNothingThatCouldTakeADeviceIsToldWhatItLacks) {
    EXPECT_TRUE(say(whole("y", 7, {})));
    EXPECT_THAT(refusal(wish("y", none), Errc::failed_precondition),
                HasSubstr("host y has no guest and no lanepool_bridge"));
    EXPECT_THAT(refusal(wish("y", bounce), Errc::failed_precondition),
                AllOf(HasSubstr("cannot borrow with its own kernel"), HasSubstr("its guests: none")));
    EXPECT_THAT(refusal(wish("w", none, "g"), Errc::not_found),
                HasSubstr("it has: none; without a guest's name its own kernel takes the device"));
}

TEST_F(ReceiversTest, AModeIsOnlyForTheHostsOwnKernel) {
    EXPECT_THAT(refusal(wish("x", bounce, "g"), Errc::invalid_argument),
                HasSubstr("name the guest or the mode"));
    EXPECT_THAT(refusal(wish("a", bounce), Errc::failed_precondition),
                AllOf(HasSubstr("no lanepool_bridge"), HasSubstr("its guests: g")));
    BorrowRequest to_applications = wish("w", bounce);
    to_applications.access_model = AccessModel::smartio;
    EXPECT_THAT(refusal(to_applications, Errc::invalid_argument), HasSubstr("for applications of the host"));
}

TEST_F(ReceiversTest, TheLenderItselfDoesNotBorrow) {
    Hello store = lender();
    store.dma_modes = {bounce};
    EXPECT_TRUE(say(store, false));
    EXPECT_THAT(refusal(wish("store", none), Errc::not_supported), HasSubstr("sits in host store itself"));
}

TEST_F(ReceiversTest, AnSrIovFunctionIsLentAsVf) {
    Hello store = lender();
    ObservedDevice function = store.devices[0];
    function.name = "nic0.vf0";
    function.identity.serial.clear();
    function.parent = "nic0";
    store.devices.push_back(function);
    EXPECT_TRUE(say(store, false));
    const auto id = borrow("w", "80002");
    ASSERT_TRUE(id) << id.error().message();
    EXPECT_EQ(loan(*id).access_model, AccessModel::vf);
    EXPECT_TRUE(is_to_own_kernel(loan(*id)));
}

// ---- in which mode

TEST_F(ReceiversTest, TheFirstModeThatIsAllowedAndOfferedIsTaken) {
    EXPECT_EQ(mode_of(request("w", "80000")), bounce);
    EXPECT_EQ(mode_of(request("v", "80001")), iommu); // which offers no bounce pool
}

TEST_F(ReceiversTest, TheModeThatIsAskedForIsTaken) { EXPECT_EQ(mode_of(wish("w", iommu)), iommu); }

TEST_F(ReceiversTest, AModeThatTheHostDoesNotOfferIsRefused) {
    EXPECT_THAT(refusal(wish("w", direct), Errc::failed_precondition),
                HasSubstr("host w does not offer DMA mode direct, but: bounce, iommu"));
}

TEST_F(ReceiversTest, WithoutASiteNobodyButTheOwnerExposesAllMemory) {
    EXPECT_THAT(refusal(by_user(wish("v", direct)), Errc::permission_denied),
                AllOf(HasSubstr("the pool does not let"), HasSubstr("bounce, iommu")));
    EXPECT_EQ(mode_of(wish("v", direct)), direct);
}

TEST_F(ReceiversTest, ARuleSaysWhichModesThereAreAndWhichIsFirst) {
    set_site(one_rule({direct, iommu}));
    EXPECT_EQ(mode_of(by_user(request("v", "80000"))), direct);
    EXPECT_EQ(mode_of(by_user(request("w", "80001"))), iommu);
    EXPECT_THAT(refusal(by_user(wish("w", bounce)), Errc::permission_denied),
                HasSubstr("rule all does not let a host's own kernel borrow in DMA mode bounce, but in: "
                          "direct, iommu"));
}

TEST_F(ReceiversTest, WhereNoModeIsBothAllowedAndOfferedBothAreNamed) {
    set_site(one_rule({bounce}));
    EXPECT_THAT(refusal(by_user(request("v")), Errc::failed_precondition),
                HasSubstr("host v offers its own kernel the DMA modes iommu, direct, and rule all allows "
                          "bounce"));
    EXPECT_EQ(mode_of(request("v")), iommu); // the owner is not held by it
}

TEST_F(ReceiversTest, ADryRunTellsTheModeAndTheRule) {
    set_site(one_rule({iommu, bounce}));
    const auto by_default = pool->explain(by_user(request("w")), now);
    ASSERT_TRUE(by_default.now);
    EXPECT_THAT(by_default.why.front(),
                AllOf(HasSubstr("allowed by rule all"),
                      HasSubstr("by host w's own kernel in DMA mode iommu (the first that is allowed and "
                                "offered)")));
    EXPECT_THAT(pool->explain(by_user(wish("w", bounce)), now).why.front(),
                HasSubstr("in DMA mode bounce (asked for)"));
    const auto refused = pool->explain(by_user(wish("w", direct)), now);
    EXPECT_FALSE(refused.allowed);
    EXPECT_THAT(refused.why.front(), HasSubstr("rule all does not let"));
    EXPECT_THAT(pool->explain(request("a"), now).why.front(), Not(HasSubstr("kernel")));
}

// ---- wishes

TEST_F(ReceiversTest, AQueuedWishKeepsItsModeAndIsGivenItWhenItStarts) {
    const LoanId first = lend_to("a");
    BorrowRequest waits = wish("w", iommu);
    waits.wait_s = 100;
    const auto id = ask(waits);
    ASSERT_TRUE(id) << id.error().message();
    EXPECT_EQ(loan(*id).state, LoanState::queued);
    EXPECT_EQ(loan(*id).dma, iommu);
    restart();
    EXPECT_TRUE(say(lender_now(first, device().epoch)));
    EXPECT_TRUE(say(borrower_now("a", 1, loan(first))));
    EXPECT_TRUE(say(whole("w", 4)));
    sent.clear();
    give_back(first);
    done(StepKind::detach);
    recover();
    EXPECT_EQ(loan(*id).state, LoanState::preparing);
    EXPECT_EQ(loan(*id).dma, iommu);
}

TEST_F(ReceiversTest, AWishWithoutAModeGetsWhatTheHostOffersWhenItStarts) {
    const LoanId first = lend_to("a");
    BorrowRequest waits = request("w");
    waits.wait_s = 100;
    const auto id = ask(waits);
    ASSERT_TRUE(id);
    EXPECT_EQ(loan(*id).dma, none);
    EXPECT_TRUE(say(whole("w", 4, {iommu}), false));
    give_back(first);
    done(StepKind::detach);
    recover();
    EXPECT_EQ(loan(*id).dma, iommu);
}

TEST_F(ReceiversTest, AWishWhoseModeIsOfferedNoLongerFailsWithTheReason) {
    const LoanId first = lend_to("a");
    BorrowRequest waits = wish("w", iommu);
    waits.wait_s = 100;
    const auto id = ask(waits);
    waits.dma = none;
    const auto any = ask(waits);
    ASSERT_TRUE(id && any);
    EXPECT_TRUE(say(whole("w", 4, {bounce}), false));
    give_back(first);
    done(StepKind::detach);
    recover();
    EXPECT_EQ(loan(*id).state, LoanState::failed);
    EXPECT_THAT(loan(*id).reason, HasSubstr("does not offer DMA mode iommu, but: bounce"));
    pass(10);
    EXPECT_EQ(loan(*any).state, LoanState::preparing); // it comes next
    EXPECT_EQ(loan(*any).dma, bounce);
}

TEST_F(ReceiversTest, AWishForAKernelThatCanNoLongerDoesNotGoToAGuest) {
    const LoanId first = lend_to("a");
    BorrowRequest waits = request("x");
    waits.wait_s = 100;
    const auto id = ask(waits);
    Hello guests_only = borrower("x", 6);
    EXPECT_TRUE(say(guests_only, false));
    give_back(first);
    done(StepKind::detach);
    recover();
    EXPECT_EQ(loan(*id).state, LoanState::failed);
    EXPECT_THAT(loan(*id).reason, HasSubstr("there is no lanepool_bridge"));
}

TEST_F(ReceiversTest, AnotherSiteEndsWishesForModesThatItDoesNotAllow) {
    lend_to("a");
    BorrowRequest waits = by_user(wish("w", iommu));
    waits.wait_s = 100;
    waits.devices[0] = Selector();
    waits.devices[0].kind = "nvme";
    waits.devices.push_back(waits.devices[0]);
    const auto id = ask(waits);
    ASSERT_TRUE(id) << id.error().message();
    ASSERT_EQ(loan(*id).state, LoanState::queued);
    set_site(one_rule({bounce}));
    EXPECT_EQ(loan(*id).state, LoanState::failed);
    EXPECT_THAT(loan(*id).reason, HasSubstr("the site was changed: rule all does not let"));
}

// ---- what it got

TEST_F(ReceiversTest, WhatTheKernelGotIsKept) {
    const auto id = borrow("w");
    done(StepKind::prepare);
    const Step step = take(StepKind::attach).step;
    pool->answered("w",
                   {step.id, step.loan, step.epoch, step.kind, true, "", "",
                    Attached{8 << 20, "1ff00:00:00.0", "nv\nme"}},
                   now);
    keep();
    EXPECT_EQ(loan(*id).state, LoanState::active);
    restart();
    EXPECT_EQ(loan(*id).dma, bounce);
    EXPECT_EQ(loan(*id).dma_bytes, 8u << 20);
    EXPECT_EQ(loan(*id).function, "1ff00:00:00.0");
    EXPECT_EQ(loan(*id).driver, "nv me");
}

TEST_F(ReceiversTest, AGuestsAgentTellsNothingOfTheKind) {
    const auto id = borrow("a");
    done(StepKind::prepare);
    const Step step = take(StepKind::attach).step;
    pool->answered("a", {step.id, step.loan, step.epoch, step.kind, true, "", "", Attached{1, "f", "d"}},
                   now);
    keep();
    EXPECT_EQ(loan(*id).state, LoanState::active);
    EXPECT_EQ(loan(*id).function, "");
}

// ---- a return that asks first

TEST_F(ReceiversTest, AReturnAsksTheHostsKernelAndNotAGuest) {
    give_back(lend_to("w"));
    EXPECT_TRUE(take(StepKind::detach).step.ask);
    give_back(lend_to("a", "80001"));
    EXPECT_FALSE(take(StepKind::detach).step.ask);
}

TEST_F(ReceiversTest, WhatIsInUseStaysTheSameLoan) {
    const LoanId id = lend_to("w", "80000", 1000);
    const Loan before = loan(id);
    give_back(id);
    EXPECT_EQ(loan(id).state, LoanState::quiescing);
    answer_busy(take(StepKind::detach));
    Loan after = loan(id);
    EXPECT_EQ(after.state, LoanState::active);
    EXPECT_EQ(after.reason, "not given back: /dev/nvme0n1 is mounted on /srv [busy]");
    EXPECT_EQ(code_of(after.reason), Errc::busy);
    EXPECT_EQ(device().state, DeviceState::lent);
    EXPECT_EQ(device().loan, id);
    EXPECT_EQ(device().epoch, before.epoch);
    after.reason.clear();
    EXPECT_EQ(after, before);
    EXPECT_TRUE(sent.empty());
    EXPECT_THAT(trail_of(id),
                ElementsAre("reserved", "preparing", "attaching", "active", "quiescing", "active"));
    EXPECT_THAT(disk.trail.back().reason, HasSubstr("mounted on /srv"));
    EXPECT_FALSE(borrow("a")); // still nobody else's
}

TEST_F(ReceiversTest, LaterItIsGivenBackAsEver) {
    const LoanId id = give_back(lend_to("w"));
    answer_busy(take(StepKind::detach));
    give_back(id);
    EXPECT_TRUE(sent.front().step.ask);
    done(StepKind::detach);
    recover();
    EXPECT_EQ(loan(id).state, LoanState::returned);
    EXPECT_EQ(loan(id).reason, "returned by user");
    EXPECT_EQ(device().state, DeviceState::available);
}

TEST_F(ReceiversTest, AnAnswerThatComesLateOrTwiceChangesNothing) {
    const LoanId id = give_back(lend_to("w"));
    const Order asked = take(StepKind::detach);
    answer_busy(asked);
    answer_busy(asked);
    EXPECT_EQ(loan(id).state, LoanState::active);
    give_back(id);
    answer_busy(asked);
    EXPECT_EQ(loan(id).state, LoanState::quiescing);
    done(StepKind::detach);
    answer_busy(asked);
    EXPECT_EQ(loan(id).state, LoanState::detaching);
}

TEST_F(ReceiversTest, BusyIsAnAnswerOnlyToWhoAsks) {
    const LoanId id = give_back(lend_to("a"));
    answer_busy(take(StepKind::detach));
    EXPECT_EQ(loan(id).state, LoanState::detaching);
    EXPECT_THAT(loan(id).reason, HasSubstr("the guest did not let go and was cut off"));
}

TEST_F(ReceiversTest, AnyOtherFailureCutsItOff) {
    const LoanId id = give_back(lend_to("w"));
    failed(StepKind::detach, "the driver hangs");
    EXPECT_EQ(loan(id).state, LoanState::detaching);
    EXPECT_THAT(loan(id).reason, HasSubstr("the host's kernel did not let go and was cut off"));
}

TEST_F(ReceiversTest, TheMarkForLocalUseIsTakenBack) {
    const LoanId id = give_back(lend_to("w"), true);
    EXPECT_TRUE(device().kept_local);
    answer_busy(take(StepKind::detach));
    EXPECT_FALSE(device().kept_local);
    EXPECT_EQ(disk.trail.back().action, "keep-local-cancelled");
    give_back(id);
    done(StepKind::detach);
    recover();
    EXPECT_EQ(device().state, DeviceState::available);
}

TEST_F(ReceiversTest, SoIsThePromiseOfAReassignment) {
    const LoanId id = lend_to("w");
    const auto next = pool->reassign({"80000", "v", "", owner()}, now);
    ASSERT_TRUE(next) << next.error().message();
    keep();
    EXPECT_EQ(device().successor, *next);
    answer_busy(take(StepKind::detach));
    EXPECT_EQ(loan(id).state, LoanState::active);
    EXPECT_EQ(device().successor, LoanId());
    EXPECT_EQ(loan(*next).state, LoanState::failed);
    EXPECT_THAT(loan(*next).reason, AllOf(HasSubstr("loan 1 was not given back"), HasSubstr("/srv")));
    EXPECT_EQ(code_of(loan(*next).reason), Errc::busy);
}

TEST_F(ReceiversTest, AReassignmentChoosesReceiverAndMode) {
    lend_to("a");
    const auto next = pool->reassign({"80000", "v", "", owner()}, now);
    ASSERT_TRUE(next) << next.error().message();
    keep();
    done(StepKind::detach);
    recover();
    EXPECT_EQ(loan(*next).state, LoanState::preparing);
    EXPECT_EQ(loan(*next).dma, iommu);
    const auto same = pool->reassign({"80000", "v", "", owner()}, now);
    ASSERT_FALSE(same);
    EXPECT_THAT(same.error().message(), HasSubstr("the kernel of host v has device"));
}

TEST_F(ReceiversTest, AReassignmentToAKernelThatCanNoLongerFails) {
    lend_to("a");
    const auto next = pool->reassign({"80000", "w", "", owner()}, now);
    ASSERT_TRUE(next);
    keep();
    EXPECT_TRUE(say(whole("w", 4, {}), false));
    done(StepKind::detach);
    recover();
    EXPECT_EQ(loan(*next).state, LoanState::failed);
    EXPECT_THAT(loan(*next).reason, HasSubstr("no lanepool_bridge"));
    EXPECT_EQ(device().state, DeviceState::available);
}

TEST_F(ReceiversTest, AReassignmentInAModeThatTheRuleForbidsIsRefusedAtOnce) {
    set_site(one_rule({bounce}));
    const auto id = ask(by_user(request("a")));
    ASSERT_TRUE(id);
    done(StepKind::prepare);
    done(StepKind::attach);
    const auto next = pool->reassign({"80000", "v", "", {"u", false}}, now);
    keep();
    ASSERT_FALSE(next);
    EXPECT_THAT(next.error().message(), HasSubstr("rule all allows bounce"));
    EXPECT_EQ(loan(*id).state, LoanState::active);
}

// ---- what comes in between

TEST_F(ReceiversTest, AControllerThatStartsAnewAsksAgain) {
    const LoanId id = give_back(lend_to("w"), true);
    const Order asked = take(StepKind::detach);
    restart();
    EXPECT_TRUE(say(lender_now(id, device().epoch)));
    Hello host = whole("w", 4);
    host.loans.push_back({id, loan(id).fdid, loan(id).epoch, true});
    EXPECT_TRUE(say(host));
    const Order again = take(StepKind::detach);
    EXPECT_TRUE(again.step.ask);
    EXPECT_EQ(again.step.id, asked.step.id);
    answer_busy(again);
    restart();
    EXPECT_EQ(loan(id).state, LoanState::active);
    EXPECT_THAT(loan(id).reason, HasSubstr("mounted on /srv"));
    EXPECT_FALSE(device().kept_local);
}

TEST_F(ReceiversTest, WhoReclaimsDoesNotAsk) {
    const LoanId id = give_back(lend_to("w"));
    const Order asked = take(StepKind::detach);
    ASSERT_TRUE(pool->reclaim({"80000", "now", owner()}, now));
    keep();
    EXPECT_EQ(loan(id).state, LoanState::detaching);
    EXPECT_FALSE(take(StepKind::detach).step.ask);
    answer_busy(asked);
    recover();
    EXPECT_EQ(loan(id).state, LoanState::returned);
}

TEST_F(ReceiversTest, WhoEvictsInsists) {
    const LoanId id = give_back(lend_to("w"));
    const Order asked = take(StepKind::detach);
    ASSERT_TRUE(pool->drain({"w", true, true, "", owner()}, now));
    keep();
    const Order insists = take(StepKind::detach);
    EXPECT_FALSE(insists.step.ask);
    answer_busy(asked);
    EXPECT_EQ(loan(id).state, LoanState::quiescing);
    ASSERT_TRUE(pool->drain({"w", true, true, "", owner()}, now)); // a second time there is nothing to add
    keep();
    EXPECT_EQ(waiting(StepKind::detach), 0u);
    answer(insists);
    recover();
    EXPECT_EQ(loan(id).state, LoanState::returned);
    EXPECT_EQ(loan(id).reason, "returned by user; then drained by user: by user");
}

TEST_F(ReceiversTest, AnEvictionOfWhatIsActiveDoesNotAsk) {
    lend_to("w");
    ASSERT_TRUE(pool->drain({"w", true, true, "", owner()}, now));
    keep();
    EXPECT_FALSE(take(StepKind::detach).step.ask);
}

TEST_F(ReceiversTest, ADueTimeThatPassesMeanwhileCountsAfterwards) {
    const LoanId id = give_back(lend_to("w", "80000", 5));
    const Order asked = take(StepKind::detach);
    pass(6000);
    EXPECT_EQ(loan(id).state, LoanState::quiescing);
    answer_busy(asked);
    EXPECT_EQ(loan(id).state, LoanState::active);
    pass(0);
    EXPECT_EQ(loan(id).state, LoanState::quiescing);
    EXPECT_EQ(loan(id).reason, "its due time has passed");
    EXPECT_FALSE(take(StepKind::detach).step.ask);
}

TEST_F(ReceiversTest, ABorrowerThatDiesMeanwhileEndsIt) {
    const LoanId id = give_back(lend_to("w"));
    disconnect("w");
    pass(options.borrower_grace_ms + 1);
    EXPECT_EQ(loan(id).state, LoanState::detaching);
    recover();
    EXPECT_EQ(loan(id).state, LoanState::returned);
}

TEST_F(ReceiversTest, ALossAfterItIsNotToldAsTheUse) {
    const LoanId id = give_back(lend_to("w"));
    answer_busy(take(StepKind::detach));
    disconnect("store");
    pass(options.lender_grace_ms + 1);
    EXPECT_EQ(loan(id).state, LoanState::failed);
    EXPECT_THAT(loan(id).reason, Not(HasSubstr("/srv")));
}

// All or none: while it is asked nobody is given back, and who stays does not stay alone.
TEST_F(ReceiversTest, AGroupWaitsForTheAnswer) {
    BorrowRequest both = request("w");
    both.devices.push_back(both.devices[0]);
    both.devices[1].device = "80001";
    const auto loans = pool->borrow(both, now);
    ASSERT_TRUE(loans) << loans.error().message();
    keep();
    const Order first_prepare = take(StepKind::prepare);
    answer(first_prepare);
    done(StepKind::attach);
    const LoanId active = first_prepare.step.loan;
    const LoanId other = (*loans)[0] == active ? (*loans)[1] : (*loans)[0];
    give_back(active);
    EXPECT_EQ(loan(other).state, LoanState::preparing);
    answer_busy(take(StepKind::detach));
    EXPECT_EQ(loan(active).state, LoanState::active);
    EXPECT_EQ(loan(other).state, LoanState::preparing);
    give_back(active);
    done(StepKind::detach);
    EXPECT_EQ(loan(other).state, LoanState::detaching); // with it
}

} // namespace
} // namespace lanepool::pool
