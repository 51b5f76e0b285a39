// SPDX-License-Identifier: Apache-2.0
//
// What agents find, hosts that come and go, and a controller that was away.
#include "pool/test_bench.h"

#include <gmock/gmock.h>

namespace lanepool::pool {
namespace {

using ::testing::HasSubstr;
using enum StepKind;

class HelloTest : public testing::Bench {
  protected:
    HelloTest() { connect_all(); }
};

TEST_F(HelloTest, AnUncleanDeviceIsRecoveredFirst) {
    Hello hello = lender();
    hello.devices[0].identity.serial = "new";
    hello.devices[0].clean = false;
    ASSERT_TRUE(say(hello));
    EXPECT_EQ(device(0x80002).state, DeviceState::recovering);
    recover();
    EXPECT_EQ(device(0x80002).state, DeviceState::available);
}

TEST_F(HelloTest, ADeviceThatDoesNotAnswerIsOffline) {
    Hello hello = lender();
    hello.devices[0].answering = false;
    hello.devices[0].problem = "all ones";
    ASSERT_TRUE(say(hello, false));
    EXPECT_EQ(device().state, DeviceState::offline);
    EXPECT_EQ(device().reason, "all ones");
    ASSERT_TRUE(say(lender(), false));
    EXPECT_EQ(device().state, DeviceState::available);
}

TEST_F(HelloTest, APreparedDeviceThatNobodyLentIsRecovered) {
    Hello hello = lender();
    hello.devices[0].loan = {42};
    ASSERT_TRUE(say(hello));
    EXPECT_EQ(device().state, DeviceState::recovering);
    EXPECT_THAT(device().reason, HasSubstr("loan 42"));
}

TEST_F(HelloTest, AnEpochFromTheFutureIsAdoptedAndRaised) {
    Hello hello = lender();
    hello.devices[0].epoch = {77};
    ASSERT_TRUE(say(hello));
    EXPECT_EQ(device().state, DeviceState::recovering);
    EXPECT_EQ(take(StepKind::cut).step.epoch, Epoch{78});
}

TEST_F(HelloTest, AnUnknownLoanAtABorrowerIsDetached) {
    Hello hello = borrower("a", 1);
    hello.loans.push_back({{42}, {0x80000}, {9}, true});
    ASSERT_TRUE(say(hello));
    const Order detach = take(StepKind::detach);
    EXPECT_EQ(detach.step.loan, LoanId{42});
    EXPECT_EQ(detach.step.epoch, Epoch{9});
    ASSERT_TRUE(say(hello, false)); // not asked twice
    EXPECT_TRUE(sent.empty());
    EXPECT_EQ(device().state, DeviceState::available);
    answer(detach);
    EXPECT_EQ(pool->ledger().steps.size(), 0u);
}

TEST_F(HelloTest, ALoanThatTheBorrowerDoesNotHaveIsLost) {
    const auto id = lend_to("a");
    ASSERT_TRUE(say(borrower("a", 1)));
    EXPECT_EQ(loan(id).state, LoanState::detaching);
    recover();
    EXPECT_EQ(loan(id).state, LoanState::failed);
}

TEST_F(HelloTest, ALoanThatBothHaveGoesOn) {
    const auto id = lend_to("a");
    ASSERT_TRUE(say(borrower_now("a", 1, loan(id))));
    ASSERT_TRUE(say(lender_now(id, loan(id).epoch)));
    EXPECT_EQ(loan(id).state, LoanState::active);
    EXPECT_EQ(device().state, DeviceState::lent);
    EXPECT_TRUE(sent.empty());
}

TEST_F(HelloTest, ALenderThatWasRestartedLosesTheLoan) {
    const auto id = lend_to("a");
    ASSERT_TRUE(say(lender_now({}, loan(id).epoch)));
    EXPECT_EQ(loan(id).state, LoanState::detaching);
    EXPECT_EQ(take(StepKind::detach).step.host, "a");
    recover();
    EXPECT_EQ(loan(id).state, LoanState::failed);
    EXPECT_EQ(device().state, DeviceState::available);
}

TEST_F(HelloTest, ALentDeviceThatDiesIsQuarantined) {
    const auto id = lend_to("a");
    Hello hello = lender_now(id, loan(id).epoch);
    hello.devices[0].answering = false;
    ASSERT_TRUE(say(hello, false));
    done(StepKind::cut);
    failed(StepKind::reset, "it does not answer");
    EXPECT_EQ(loan(id).state, LoanState::failed);
    EXPECT_EQ(device().state, DeviceState::quarantined);
}

TEST_F(HelloTest, ALentDeviceThatIsPulledOutEndsTheLoan) {
    const auto id = lend_to("a");
    Hello hello = lender();
    hello.devices.erase(hello.devices.begin());
    ASSERT_TRUE(say(hello, false));
    EXPECT_EQ(loan(id).state, LoanState::failed);
    EXPECT_EQ(device().state, DeviceState::offline);
    EXPECT_EQ(take(StepKind::detach).step.host, "a");
    ASSERT_TRUE(say(lender(), false)); // put back, and called clean: it was used, so it is not believed
    EXPECT_EQ(device().state, DeviceState::recovering);
}

TEST_F(HelloTest, ABorrowerMayBeAwayForAMoment) {
    const auto id = lend_to("a");
    disconnect("a");
    pass(options.borrower_grace_ms - 1);
    EXPECT_EQ(loan(id).state, LoanState::active);
    ASSERT_TRUE(say(borrower_now("a", 1, loan(id))));
    pass(60'000);
    EXPECT_EQ(loan(id).state, LoanState::active);
}

TEST_F(HelloTest, ABorrowerThatStaysAwayLosesItsLoans) {
    const auto id = lend_to("a");
    disconnect("a");
    pass(options.borrower_grace_ms);
    EXPECT_EQ(loan(id).state, LoanState::detaching);
    recover();
    EXPECT_EQ(loan(id).state, LoanState::failed);
    EXPECT_EQ(device().state, DeviceState::available);
    // It comes back with what it had: it is told to forget it.
    ASSERT_TRUE(say(borrower_now("a", 1, loan(id))));
    EXPECT_EQ(take(StepKind::detach).step.loan, id);
}

TEST_F(HelloTest, AReturnDoesNotWaitForABorrowerThatIsGone) {
    const auto id = lend_to("a");
    disconnect("a");
    ASSERT_TRUE(pool->give_back({"80000", owner("user"), 0}, now));
    keep();
    EXPECT_TRUE(sent.empty());
    pass(options.borrower_grace_ms);
    recover();
    EXPECT_EQ(loan(id).state, LoanState::returned);
    EXPECT_THAT(loan(id).reason, HasSubstr("host a does not answer"));
}

TEST_F(HelloTest, ALenderMayBeAwayForAMoment) {
    const auto id = lend_to("a");
    disconnect("store");
    EXPECT_EQ(device().state, DeviceState::offline);
    EXPECT_EQ(loan(id).state, LoanState::active);
    ASSERT_TRUE(say(lender_now(id, loan(id).epoch)));
    EXPECT_EQ(device().state, DeviceState::lent);
    pass(60'000);
    EXPECT_EQ(loan(id).state, LoanState::active);
}

TEST_F(HelloTest, ALenderThatStaysAwayEndsItsLoansAndRecoversLater) {
    const auto id = lend_to("a");
    disconnect("store");
    pass(options.lender_grace_ms);
    EXPECT_EQ(loan(id).state, LoanState::failed);
    EXPECT_EQ(device().state, DeviceState::offline);
    EXPECT_EQ(take(StepKind::detach).step.host, "a");
    ASSERT_TRUE(say(lender_now(id, loan(id).epoch)));
    EXPECT_EQ(device().state, DeviceState::recovering);
    recover();
    EXPECT_EQ(device().state, DeviceState::available);
}

TEST_F(HelloTest, AReturnEndsWhenTheLenderIsGone) {
    const auto id = lend_to("a");
    disconnect("store");
    ASSERT_TRUE(pool->give_back({"80000", owner("user"), 0}, now));
    keep();
    done(StepKind::detach);
    EXPECT_EQ(loan(id).state, LoanState::detaching);
    EXPECT_TRUE(sent.empty());
    pass(options.lender_grace_ms);
    EXPECT_EQ(loan(id).state, LoanState::returned);
    EXPECT_EQ(device().state, DeviceState::offline);
    EXPECT_FALSE(device().clean);
}

TEST_F(HelloTest, UnansweredStepsAreSentAgainAfterAConnect) {
    const auto id = borrow("a");
    const Order first = take(StepKind::prepare);
    disconnect("store");
    ASSERT_TRUE(say(lender()));
    const Order again = take(StepKind::prepare);
    EXPECT_EQ(again.step.id, first.step.id);
    EXPECT_EQ(device().state, DeviceState::reserved);
    answer(again);
    EXPECT_EQ(loan(*id).state, LoanState::attaching);
    ASSERT_TRUE(say(lender_now(*id, loan(*id).epoch), false)); // a later Hello does not repeat them
    EXPECT_EQ(sent.size(), 1u);
}

TEST_F(HelloTest, AnAgentThatComesAndGoesIsNotAskedForEver) {
    const auto id = borrow("a");
    for (uint32_t i = 0; i < options.sendings; ++i) {
        EXPECT_EQ(loan(*id).state, LoanState::preparing);
        disconnect("store");
        ASSERT_TRUE(say(lender()));
    }
    EXPECT_EQ(loan(*id).state, LoanState::detaching);
}

TEST_F(HelloTest, ARestartedControllerGoesOnWhereItWas) {
    // At each step of a whole loan: the controller dies after the step was sent and before its answer came.
    const auto reconnect = [&](bool prepared, bool attached, LoanId id) {
        sent.clear();
        restart();
        EXPECT_EQ(device().state, DeviceState::offline);
        Hello store = lender();
        store.devices[0].epoch = device().epoch;
        if (prepared) store = lender_now(id, loan(id).epoch);
        ASSERT_TRUE(say(store));
        ASSERT_TRUE(say(attached ? borrower_now("a", 1, loan(id)) : borrower("a", 1)));
    };
    const auto id = borrow("a");
    reconnect(false, false, *id);
    done(StepKind::prepare);
    reconnect(true, false, *id);
    done(StepKind::attach);
    reconnect(true, true, *id);
    EXPECT_EQ(loan(*id).state, LoanState::active);
    EXPECT_EQ(device().state, DeviceState::lent);
    EXPECT_TRUE(sent.empty());
    ASSERT_TRUE(pool->give_back({"80000", owner("user"), 0}, now));
    keep();
    reconnect(true, true, *id);
    done(StepKind::detach);
    reconnect(true, false, *id);
    done(StepKind::cut);
    reconnect(false, false, *id);
    done(StepKind::reset);
    reconnect(false, false, *id);
    EXPECT_EQ(device().state, DeviceState::recovering);
    done(StepKind::sanitize);
    EXPECT_EQ(loan(*id).state, LoanState::returned);
    EXPECT_EQ(device().state, DeviceState::available);
}

TEST_F(HelloTest, ARestartedControllerWaitsOnlySoLong) {
    const auto id = lend_to("a");
    restart();
    pass(options.restart_grace_ms - 1);
    EXPECT_EQ(loan(id).state, LoanState::active);
    pass(1);
    EXPECT_EQ(loan(id).state, LoanState::failed);
    EXPECT_EQ(device().state, DeviceState::offline);
    EXPECT_EQ(pool->next_tick_steady_us(), std::nullopt);
}

TEST_F(HelloTest, DueTimesSurviveARestart) {
    const auto id = lend_to("a", "80000", 60);
    now.unix_us += 30'000'000;
    now.steady_us = 5; // another boot
    restart();
    ASSERT_TRUE(say(lender_now(id, loan(id).epoch)));
    ASSERT_TRUE(say(borrower_now("a", 1, loan(id))));
    pass(29'999);
    EXPECT_EQ(loan(id).state, LoanState::active);
    pass(1);
    EXPECT_EQ(loan(id).state, LoanState::quiescing);
}

TEST_F(HelloTest, RecordsThatContradictEachOtherAreRefused) {
    const auto id = lend_to("a");
    const auto refused = [&](auto&& spoil) {
        Snapshot snapshot = disk.snapshot();
        spoil(snapshot);
        const auto pool_of_it = Pool::create(snapshot, site, options, now);
        ASSERT_FALSE(pool_of_it);
        EXPECT_THAT(pool_of_it.error().message(), HasSubstr("contradict"));
    };
    refused([](Snapshot& all) { all.hosts.clear(); });
    refused([](Snapshot& all) { all.loans.clear(); });
    refused([](Snapshot& all) { all.devices.clear(); });
    refused([](Snapshot& all) { all.devices[0].loan = {}; });
    refused([](Snapshot& all) { all.devices[0].epoch = {}; });
    refused([](Snapshot& all) { all.loans[0].state = LoanState::attaching; });
    refused([](Snapshot& all) { all.loans[0].state = LoanState::reserved; });
    refused([](Snapshot& all) { all.counters = {}; });
    refused([&](Snapshot& all) { all.devices[1].successor = id; });
    refused(
        [](Snapshot& all) { all.devices[1].clean = false, all.devices[1].state = DeviceState::available; });
}

TEST_F(HelloTest, RefusesAHelloThatMakesNoSense) {
    const auto refused = [&](Hello hello) {
        const auto fdids = pool->hello(hello, true, now);
        EXPECT_FALSE(fdids);
        EXPECT_TRUE(pool->outcome()->empty());
        return fdids ? Errc::internal : fdids.error().code();
    };
    Hello hello = lender();
    hello.host = "../x";
    EXPECT_EQ(refused(hello), Errc::invalid_argument);
    hello = lender();
    hello.instance = "";
    EXPECT_EQ(refused(hello), Errc::invalid_argument);
    hello = lender();
    hello.devices[1].name = hello.devices[0].name;
    EXPECT_EQ(refused(hello), Errc::invalid_argument);
    hello = lender();
    hello.devices[0].identity.serial = std::string(1000, 'x');
    EXPECT_EQ(refused(hello), Errc::invalid_argument);
    hello = lender();
    hello.guests = {"g", "g"};
    EXPECT_EQ(refused(hello), Errc::invalid_argument);
    hello = lender();
    hello.partition = 2; // b's
    EXPECT_EQ(refused(hello), Errc::already_exists);
    hello = lender();
    hello.devices.assign(1000, hello.devices[0]);
    EXPECT_EQ(refused(hello), Errc::no_space);
    hello = borrower("a", 1);
    hello.loans.resize(5000);
    EXPECT_EQ(refused(hello), Errc::no_space);
    hello.loans.assign(1, ObservedLoan{});
    EXPECT_EQ(refused(hello), Errc::invalid_argument);
}

TEST_F(HelloTest, AHostCannotFillTheRecordsWithDevices) {
    Hello hello = lender();
    for (size_t i = 2; i < options.devices_per_host; ++i) {
        hello.devices[0].identity.serial = fmt::format("made-up-{}", i);
        ASSERT_TRUE(say(hello, false)) << i;
    }
    hello.devices[0].identity.serial = "one more";
    const auto fdids = say(hello, false);
    ASSERT_FALSE(fdids);
    EXPECT_EQ(fdids.error().code(), Errc::no_space);
}

TEST_F(HelloTest, SignsOfLifeAreNotStored) {
    now.unix_us += 77;
    pool->heard("a", 12, now);
    EXPECT_TRUE(pool->outcome()->empty());
    EXPECT_EQ(pool->ledger().hosts.find("a")->windows_free, 12u);
    EXPECT_EQ(pool->ledger().hosts.find("a")->last_seen_us, now.unix_us);
}

} // namespace
} // namespace lanepool::pool
