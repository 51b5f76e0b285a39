// SPDX-License-Identifier: Apache-2.0
//
// Several loans of one device: who joins, who leaves, and what ends all of them.
#include "pool/smartio_bench.h"

#include <gmock/gmock.h>

namespace lanepool::pool {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class SharingTest : public testing::SmartioBench {
  protected:
    LoanId share(const std::string& host) { return use(wish(host, true)); }
    void ask_back(LoanId id) {
        ASSERT_TRUE(pool->give_back({named(id), owner()}, now));
        keep();
    }
    // It goes, and others stay.
    void leave(LoanId id) {
        ask_back(id);
        done(StepKind::detach);
        done(StepKind::expel);
    }
    size_t sent_of(StepKind kind) const {
        return static_cast<size_t>(std::count_if(
            sent.begin(), sent.end(), [&](const Order& order) { return order.step.kind == kind; }));
    }
    void expect_available() {
        EXPECT_EQ(device().state, DeviceState::available);
        EXPECT_FALSE(device().loan);
        EXPECT_EQ(pool->ledger().steps.size(), 0u);
    }
    Hello lender_shows(std::vector<LoanId> open, Epoch epoch) {
        Hello hello = lender_now(open.empty() ? LoanId() : open.front(), epoch);
        if (!open.empty()) hello.devices[0].joined.assign(open.begin() + 1, open.end());
        return hello;
    }
};

// ---- joining

TEST_F(SharingTest, JoinsAtTheEpochOfTheFirst) {
    const LoanId first = share("a");
    const LoanId second = share("b");
    EXPECT_EQ(loan(second).state, LoanState::active);
    EXPECT_EQ(loan(second).epoch, loan(first).epoch);
    EXPECT_EQ(device().epoch, loan(first).epoch);
    EXPECT_EQ(device().loan, first);
    EXPECT_EQ(device().state, DeviceState::lent);
    EXPECT_THAT(pool->ledger().loans_on({0x80000}), ElementsAre(first, second));
}

TEST_F(SharingTest, JoinsWhileTheFirstIsOnItsWay) {
    const auto first = ask(wish("a", true));
    const auto second = ask(wish("b", true));
    ASSERT_TRUE(first && second);
    for (int i = 0; i < 2; ++i)
        done(StepKind::prepare);
    for (int i = 0; i < 2; ++i)
        done(StepKind::attach);
    EXPECT_EQ(loan(*first).state, LoanState::active);
    EXPECT_EQ(loan(*second).state, LoanState::active);
}

TEST_F(SharingTest, JoinsOnceMoreFromTheSameHost) {
    const LoanId first = share("a");
    const LoanId second = share("a");
    EXPECT_NE(first, second);
    leave(first);
    EXPECT_EQ(loan(second).state, LoanState::active);
}

TEST_F(SharingTest, IsTold) {
    share("a");
    const auto explained = pool->explain(wish("b", true), now);
    EXPECT_TRUE(explained.now);
    EXPECT_THAT(explained.devices, ElementsAre(Fdid{0x80000}));
    EXPECT_THAT(explained.why.back(), HasSubstr("is shared already, by 1 loans"));
}

TEST_F(SharingTest, LetsAnExclusiveWishWaitUntilTheLastHasLeft) {
    const LoanId first = share("a");
    const LoanId second = share("b");
    BorrowRequest exclusive = wish("c");
    exclusive.wait_s = 100;
    const auto waits = ask(exclusive);
    ASSERT_TRUE(waits);
    leave(first);
    EXPECT_EQ(loan(*waits).state, LoanState::queued);
    give_back(second);
    EXPECT_EQ(loan(*waits).state, LoanState::preparing);
}

TEST_F(SharingTest, IsNotJoinedOnItsWayBack) {
    const LoanId first = share("a");
    ask_back(first);
    EXPECT_THAT(refusal(wish("b", true)), HasSubstr("is being taken back from host a"));
    done(StepKind::detach);
    EXPECT_THAT(refusal(wish("b", true)), HasSubstr("is being taken back from host a"));
}

TEST_F(SharingTest, IsJoinedWhileOneOfSeveralGoes) {
    const LoanId first = share("a");
    share("b");
    ask_back(first);
    EXPECT_TRUE(ask(wish("c", true)));
}

TEST_F(SharingTest, IsNotJoinedWhileItIsDrained) {
    share("a");
    ASSERT_TRUE(pool->drain({"80000", true, false, "old", owner()}, now));
    EXPECT_THAT(refusal(wish("b", true), Errc::failed_precondition), HasSubstr("is drained: old"));
}

TEST_F(SharingTest, IsNotJoinedWhileItsLenderIsAway) {
    share("a");
    disconnect("store");
    EXPECT_THAT(refusal(wish("b", true), Errc::unavailable), HasSubstr("is offline"));
}

TEST_F(SharingTest, IsNotJoinedByMoreThanAreAllowed) {
    options.loans_per_device = 2;
    restart();
    connect_all();
    share("a");
    share("b");
    EXPECT_THAT(refusal(wish("c", true)), HasSubstr("is shared by 2 loans, and no more"));
}

TEST_F(SharingTest, IsNotJoinedWithoutWindows) {
    Hello full = borrower("b", 2);
    full.windows = 4;
    ASSERT_TRUE(say(full, false));
    share("a");
    EXPECT_THAT(refusal(wish("b", true)), HasSubstr("host b has none of its windows left"));
}

TEST_F(SharingTest, CountsForTheLimitsOfItsTenant) {
    Site site_of_two;
    site_of_two.tenants = {{"red", 1, 1}};
    site_of_two.users = {{"eve", "red", Role::user}};
    ASSERT_TRUE(pool->apply_site(site_of_two, "text", owner(), now));
    keep();
    use(named(wish("a", true), "eve", "a"));
    EXPECT_THAT(refusal(named(wish("b", true), "eve", "b"), Errc::no_space),
                HasSubstr("tenant red has 1 loans and may have 1"));
}

TEST_F(SharingTest, HasADueTimeOfItsOwn) {
    const LoanId first = share("a");
    BorrowRequest brief = wish("b", true);
    brief.duration_s = 10;
    const LoanId second = use(brief);
    pass(10'000);
    EXPECT_EQ(loan(second).state, LoanState::quiescing);
    EXPECT_EQ(loan(first).state, LoanState::active);
}

TEST_F(SharingTest, IsRenewedByItsNumberOnly) {
    BorrowRequest brief = wish("a", true);
    brief.duration_s = 10;
    const LoanId first = use(brief);
    const LoanId second = share("b");
    ASSERT_TRUE(pool->renew({named(first), 100, owner()}, now));
    ASSERT_TRUE(pool->renew({named(second), 200, owner()}, now));
    keep();
    EXPECT_EQ(sent_of(StepKind::extend), 2u); // one for each, and neither takes the other's place
    const auto both = pool->renew({"80000", 300, owner()}, now);
    ASSERT_FALSE(both);
    EXPECT_THAT(both.error().message(), HasSubstr("is shared by 2 loans; name one of: loan:1, loan:2"));
    EXPECT_FALSE(pool->give_back({"80000", owner()}, now));
}

// ---- leaving

TEST_F(SharingTest, LeavesTheOthersAlone) {
    const LoanId first = share("a");
    const LoanId second = share("b");
    const Epoch epoch = device().epoch;
    ask_back(second);
    done(StepKind::detach);
    EXPECT_EQ(loan(second).state, LoanState::detaching);
    const Order expel = take(StepKind::expel);
    EXPECT_EQ(expel.step.host, "store");
    EXPECT_EQ(expel.step.loan, second);
    EXPECT_EQ(expel.step.epoch, epoch);
    answer(expel);
    EXPECT_EQ(loan(second).state, LoanState::returned);
    EXPECT_EQ(loan(first).state, LoanState::active);
    EXPECT_EQ(device().epoch, epoch);
    EXPECT_EQ(device().state, DeviceState::lent);
    EXPECT_EQ(sent_of(StepKind::cut), 0u);
    give_back(first);
    expect_available();
}

TEST_F(SharingTest, PassesTheDeviceOnWhenItsHolderLeaves) {
    const LoanId first = share("a");
    const LoanId second = share("b");
    leave(first);
    EXPECT_EQ(loan(first).state, LoanState::returned);
    EXPECT_EQ(device().loan, second);
    give_back(second);
    expect_available();
}

TEST_F(SharingTest, IsCutAndResetWhenTheLastLeavesWhileAnotherIsOnItsWay) {
    const LoanId first = share("a");
    const LoanId second = share("b");
    ask_back(first);
    ask_back(second);
    done(StepKind::detach);
    const Order expel = take(StepKind::expel);
    done(StepKind::detach);
    EXPECT_EQ(loan(first).state, LoanState::detaching);
    EXPECT_EQ(loan(second).state, LoanState::detaching);
    answer(expel, false, "late"); // overtaken by the cut
    recover();
    EXPECT_EQ(loan(first).state, LoanState::returned);
    EXPECT_EQ(loan(second).state, LoanState::returned);
    expect_available();
}

TEST_F(SharingTest, ErasesWhatOneOfThemWantsErased) {
    Site rules;
    Rule keeps;
    keeps.name = "keeps";
    keeps.hosts = {"a"};
    keeps.sanitize = false;
    Rule erases;
    erases.name = "erases";
    rules.rules = {keeps, erases};
    ASSERT_TRUE(pool->apply_site(rules, "text", owner(), now));
    keep();
    const LoanId stays = use(named(wish("a", true), "eve", "a"));
    const LoanId goes = use(named(wish("b", true), "bob", "b"));
    leave(goes);
    ask_back(stays);
    done(StepKind::detach);
    done(StepKind::cut);
    const Order reset = take(StepKind::reset);
    EXPECT_FALSE(reset.step.suffices);
    answer(reset);
    done(StepKind::sanitize);
    expect_available();
}

TEST_F(SharingTest, LeavesWhereTheApplicationDoesNotLetGo) {
    const LoanId first = share("a");
    const LoanId second = share("b");
    ask_back(second);
    failed(StepKind::detach, "it hangs");
    EXPECT_THAT(loan(second).reason, HasSubstr("the application did not let go"));
    done(StepKind::expel);
    EXPECT_EQ(loan(second).state, LoanState::returned);
    EXPECT_EQ(loan(first).state, LoanState::active);
}

TEST_F(SharingTest, FailsAloneWhereItCannotBeAttached) {
    const LoanId first = share("a");
    const auto second = ask(wish("b", true));
    done(StepKind::prepare);
    failed(StepKind::attach, "no room");
    done(StepKind::expel);
    EXPECT_EQ(loan(*second).state, LoanState::failed);
    EXPECT_EQ(loan(first).state, LoanState::active);
}

TEST_F(SharingTest, IsCutWithAllOthersWhereItCannotBeExpelled) {
    const LoanId first = share("a");
    const LoanId second = share("b");
    ask_back(second);
    done(StepKind::detach);
    const Epoch epoch = device().epoch;
    failed(StepKind::expel, "its window is stuck");
    EXPECT_EQ(device().epoch, epoch.next());
    const Order detach = take(StepKind::detach); // the other borrower is told
    EXPECT_EQ(detach.step.host, "a");
    EXPECT_EQ(detach.step.epoch, epoch.next());
    recover();
    EXPECT_EQ(loan(first).state, LoanState::failed);
    EXPECT_EQ(loan(second).state, LoanState::failed);
    EXPECT_THAT(loan(first).reason,
                HasSubstr("loan 2 could not be expelled by host store: its window is stuck"));
    answer(detach);
    expect_available();
}

TEST_F(SharingTest, IsCutWithAllOthersWhereNobodyAnswersTheExpulsion) {
    const LoanId first = share("a");
    const LoanId second = share("b");
    ask_back(second);
    done(StepKind::detach);
    take(StepKind::expel);
    pass(options.cut_ms + options.margin_ms);
    EXPECT_EQ(loan(first).state, LoanState::detaching);
    EXPECT_EQ(loan(second).state, LoanState::detaching);
    recover();
    EXPECT_EQ(loan(first).state, LoanState::failed);
    EXPECT_EQ(loan(second).state, LoanState::failed);
}

// ---- what ends one, and what ends all

TEST_F(SharingTest, IsReclaimedAloneByItsNumber) {
    const LoanId first = share("a");
    const LoanId second = share("b");
    ASSERT_TRUE(pool->reclaim({named(first), "wanted", owner()}, now));
    keep();
    EXPECT_EQ(take(StepKind::detach).step.host, "a"); // it is told, and not waited for
    done(StepKind::expel);
    EXPECT_EQ(loan(first).state, LoanState::returned);
    EXPECT_EQ(loan(second).state, LoanState::active);
}

TEST_F(SharingTest, IsReclaimedWithAllOthersByItsDevice) {
    const LoanId first = share("a");
    const LoanId second = share("b");
    ASSERT_TRUE(pool->reclaim({"80000", "wanted", owner()}, now));
    keep();
    EXPECT_EQ(sent_of(StepKind::detach), 2u);
    recover();
    for (const LoanId id : {first, second}) {
        EXPECT_EQ(loan(id).state, LoanState::returned);
        EXPECT_THAT(loan(id).reason, HasSubstr("reclaimed by user: wanted"));
    }
}

TEST_F(SharingTest, EndsWithItsDeviceInQuarantine) {
    const LoanId first = share("a");
    const LoanId second = share("b");
    ASSERT_TRUE(pool->quarantine({"80000", "smells", owner()}, now));
    keep();
    done(StepKind::cut);
    EXPECT_EQ(loan(first).state, LoanState::returned);
    EXPECT_EQ(loan(second).state, LoanState::returned);
    EXPECT_EQ(device().state, DeviceState::quarantined);
}

TEST_F(SharingTest, IsAskedBackByADrainThatEvicts) {
    const LoanId first = share("a");
    const LoanId second = share("b");
    ASSERT_TRUE(pool->drain({"80000", true, true, "", owner()}, now));
    keep();
    EXPECT_EQ(loan(first).state, LoanState::quiescing);
    EXPECT_EQ(loan(second).state, LoanState::quiescing);
    done(StepKind::detach);
    done(StepKind::detach);
    recover();
    expect_available();
}

TEST_F(SharingTest, IsAskedBackForLocalUse) {
    const LoanId first = share("a");
    const LoanId second = share("b");
    ASSERT_TRUE(pool->give_back({named(second), owner(), 0, true}, now));
    keep();
    EXPECT_EQ(loan(first).state, LoanState::quiescing);
    EXPECT_FALSE(ask(wish("c", true)));
    done(StepKind::detach);
    done(StepKind::detach);
    recover();
    EXPECT_EQ(device().state, DeviceState::local);
}

TEST_F(SharingTest, EndsForTheHostThatHasCrashedAlone) {
    const LoanId first = share("a");
    const LoanId second = share("b");
    const LoanId third = share("b");
    disconnect("b");
    pass(options.borrower_grace_ms);
    done(StepKind::expel);
    done(StepKind::expel);
    EXPECT_EQ(loan(second).state, LoanState::failed);
    EXPECT_EQ(loan(third).state, LoanState::failed);
    EXPECT_EQ(loan(first).state, LoanState::active);
}

TEST_F(SharingTest, EndsWithItsDevice) {
    const LoanId first = share("a");
    const LoanId second = share("b");
    Hello hello = lender_shows({first, second}, device().epoch);
    hello.devices[0].answering = false;
    ASSERT_TRUE(say(hello, false));
    recover();
    EXPECT_EQ(loan(first).state, LoanState::failed);
    EXPECT_EQ(loan(second).state, LoanState::failed);
}

TEST_F(SharingTest, EndsWithItsLender) {
    const LoanId first = share("a");
    const LoanId second = share("b");
    disconnect("store");
    pass(options.lender_grace_ms);
    EXPECT_EQ(loan(first).state, LoanState::failed);
    EXPECT_EQ(loan(second).state, LoanState::failed);
    EXPECT_EQ(sent_of(StepKind::detach), 2u);
    EXPECT_EQ(device().state, DeviceState::offline);
}

TEST_F(SharingTest, GoesOnWhereItsLenderIsBackWithAllOfThem) {
    const LoanId first = share("a");
    const LoanId second = share("b");
    disconnect("store");
    ASSERT_TRUE(say(lender_shows({second, first}, device().epoch)));
    EXPECT_EQ(loan(first).state, LoanState::active);
    EXPECT_EQ(loan(second).state, LoanState::active);
    EXPECT_EQ(device().state, DeviceState::lent);
}

TEST_F(SharingTest, EndsAloneWhereItsLenderHasClosedItByItself) {
    const LoanId first = share("a");
    const LoanId second = share("b");
    ASSERT_TRUE(say(lender_shows({second}, device().epoch), false));
    EXPECT_EQ(loan(first).state, LoanState::detaching);
    EXPECT_EQ(loan(second).state, LoanState::active);
    done(StepKind::expel);
    EXPECT_EQ(loan(first).state, LoanState::failed);
}

TEST_F(SharingTest, EndsWithTheOthersWhereItsLenderWasRestarted) {
    const LoanId first = share("a");
    const LoanId second = share("b");
    ASSERT_TRUE(say(lender_shows({}, device().epoch)));
    recover();
    EXPECT_EQ(loan(first).state, LoanState::failed);
    EXPECT_EQ(loan(second).state, LoanState::failed);
    EXPECT_THAT(loan(second).reason, HasSubstr("its agent was restarted"));
}

TEST_F(SharingTest, EndsWithTheOthersWhereItsLenderHasAStranger) {
    const LoanId first = share("a");
    share("b");
    ASSERT_TRUE(say(lender_shows({first, LoanId{2}, LoanId{77}}, device().epoch), false));
    EXPECT_EQ(loan(first).state, LoanState::detaching);
    EXPECT_EQ(device().state, DeviceState::recovering);
}

TEST_F(SharingTest, IsLostAlone) {
    const LoanId first = share("a");
    const LoanId second = share("b");
    lost("store", first, true, "its lease has run out");
    done(StepKind::expel);
    EXPECT_EQ(loan(first).state, LoanState::failed);
    EXPECT_EQ(loan(second).state, LoanState::active);
}

// ---- over a restart of the controller

TEST_F(SharingTest, OutlivesTheController) {
    const LoanId first = share("a");
    const LoanId second = share("b");
    ask_back(first);
    done(StepKind::detach);
    restart();
    ASSERT_TRUE(say(lender_shows({first, second}, device().epoch)));
    Hello hello = borrower_now("b", 2, loan(second));
    ASSERT_TRUE(say(hello));
    sent.erase(sent.begin()); // what was asked for before it died
    done(StepKind::expel);
    EXPECT_EQ(loan(first).state, LoanState::returned);
    EXPECT_EQ(loan(second).state, LoanState::active);
    EXPECT_EQ(device().loan, second);
}

TEST_F(SharingTest, IsRecoveredOverARestartOfTheController) {
    const LoanId first = share("a");
    const LoanId second = share("b");
    ASSERT_TRUE(pool->reclaim({"80000", "", owner()}, now));
    keep();
    sent.clear();
    restart();
    ASSERT_TRUE(say(lender_shows({first, second}, {1})));
    done(StepKind::cut);
    restart();
    sent.clear();
    ASSERT_TRUE(say(lender_shows({}, device().epoch)));
    done(StepKind::reset);
    done(StepKind::sanitize);
    EXPECT_EQ(loan(first).state, LoanState::returned);
    EXPECT_EQ(loan(second).state, LoanState::returned);
}

} // namespace
} // namespace lanepool::pool
