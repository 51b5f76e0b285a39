// SPDX-License-Identifier: Apache-2.0
//
// SR-IOV functions: made, lent by themselves, removed.
#include "pool/test_bench.h"

#include <gmock/gmock.h>

namespace lanepool::pool {
namespace {

using ::testing::HasSubstr;

// nvme0 is its host's and can have 8 functions: nvme0.vf0 and so on, which are its host's too, or taken.
class FunctionsTest : public testing::Bench {
  protected:
    Hello with_functions(uint32_t count, bool local = true, bool clean = false) {
        Hello hello = lender();
        hello.devices[0].local = true;
        hello.devices[0].clean = false;
        hello.devices[0].functions = count;
        hello.devices[0].most_functions = 8;
        hello.devices[0].epoch = known_epoch("store/nvme0");
        for (uint32_t i = 0; i < count; ++i) {
            ObservedDevice function;
            function.name = fmt::format("nvme0.vf{}", i);
            function.parent = "nvme0";
            function.identity.kind = "nvme";
            function.identity.model = "part";
            function.answering = true;
            function.local = local;
            function.clean = clean;
            function.epoch = known_epoch("store/" + function.name);
            hello.devices.push_back(function);
        }
        return hello;
    }
    Epoch known_epoch(const std::string& name) const {
        const auto fdid = pool->find_device(name);
        return fdid ? pool->ledger().devices.find(*fdid)->epoch : Epoch{};
    }
    void connect(uint32_t count, bool local = true, bool clean = false) {
        ASSERT_TRUE(say(with_functions(count, local, clean)));
        for (const char* host : {"a", "b", "c"})
            ASSERT_TRUE(say(borrower(host, static_cast<uint32_t>(host[0] - 'a' + 1))));
        sent.clear();
    }
    Result<Fdid> set(uint32_t count, const std::string& what = "80000") {
        auto fdid = pool->set_functions({what, count, owner()}, now);
        keep();
        return fdid;
    }
    Result<Fdid> restore(const std::string& what) {
        auto fdid = pool->restore({what, owner()}, now);
        keep();
        return fdid;
    }
    void take_function(const std::string& name) {
        ASSERT_TRUE(restore(name));
        done(StepKind::take);
        recover();
    }
    const Device& named(const std::string& name) { return device(pool->find_device(name)->value); }
    const Device& vf(int i) { return named(fmt::format("store/nvme0.vf{}", i)); }
};

TEST_F(FunctionsTest, AreMadeByOneStepAndKnownFromTheNextHello) {
    connect(0);
    ASSERT_TRUE(set(2));
    const Order order = take(StepKind::set_functions);
    EXPECT_EQ(order.step.functions, 2u);
    EXPECT_EQ(order.step.deadline_ms, options.functions_ms);
    EXPECT_EQ(order.device, "nvme0");
    answer(order);
    EXPECT_NE(pool->awaited({0x80000}), nullptr);
    ASSERT_TRUE(say(with_functions(2), false));
    EXPECT_EQ(pool->awaited({0x80000}), nullptr);
    EXPECT_EQ(device().functions, 2u);
    EXPECT_EQ(device().state, DeviceState::local);
    EXPECT_EQ(vf(1).state, DeviceState::local);
    EXPECT_EQ(vf(1).parent, "nvme0");
}

TEST_F(FunctionsTest, TheHelloMayComeBeforeTheAnswer) {
    connect(0);
    ASSERT_TRUE(set(2));
    const Order order = take(StepKind::set_functions);
    ASSERT_TRUE(say(with_functions(2), false));
    EXPECT_EQ(pool->awaited({0x80000}), nullptr);
    answer(order);
    EXPECT_EQ(device().functions, 2u);
    EXPECT_TRUE(sent.empty());
}

TEST_F(FunctionsTest, AreAuditedAsTheyAreAskedForAndSeen) {
    connect(0);
    ASSERT_TRUE(set(2));
    done(StepKind::set_functions);
    ASSERT_TRUE(say(with_functions(2), false));
    std::vector<std::string> told;
    for (const auto& entry : disk.trail)
        if (entry.fdid == Fdid{0x80000} && entry.action.find("functions") != std::string::npos)
            told.push_back(entry.action + ":" + entry.from + ">" + entry.to);
    EXPECT_EQ(told, (std::vector<std::string>{"set-functions:0>2", "set-functions-sent:>store",
                                              "set-functions-done:>", "functions:0>2"}));
}

TEST_F(FunctionsTest, AHelloThatShowsAnotherNumberIsWaitedOnNoLongerThanTheMargin) {
    connect(0);
    ASSERT_TRUE(set(4));
    done(StepKind::set_functions);
    ASSERT_TRUE(say(with_functions(3), false));
    EXPECT_NE(pool->awaited({0x80000}), nullptr);
    pass(options.margin_ms + 1);
    EXPECT_EQ(pool->awaited({0x80000}), nullptr);
    EXPECT_EQ(device().state, DeviceState::local);
    EXPECT_THAT(device().reason, HasSubstr("set-functions failed"));
    EXPECT_EQ(device().functions, 3u);
}

TEST_F(FunctionsTest, OneThatFailsChangesNothing) {
    connect(2, false, true);
    ASSERT_EQ(vf(0).state, DeviceState::available);
    ASSERT_TRUE(set(4));
    EXPECT_TRUE(vf(0).parent_changing);
    failed(StepKind::set_functions, "no space");
    EXPECT_EQ(device().state, DeviceState::local);
    EXPECT_THAT(device().reason, HasSubstr("set-functions failed: no space [io]"));
    EXPECT_FALSE(vf(0).parent_changing);
    EXPECT_TRUE(borrow("a", "store/nvme0.vf0"));
}

TEST_F(FunctionsTest, AreAsManyAsTheyAreAlready) {
    connect(2);
    EXPECT_TRUE(set(2));
    EXPECT_TRUE(sent.empty());
}

TEST_F(FunctionsTest, TheSameWishTwiceIsOne) {
    connect(0);
    ASSERT_TRUE(set(2));
    ASSERT_TRUE(set(2));
    EXPECT_EQ(sent.size(), 1u);
    const auto other = set(3);
    ASSERT_FALSE(other);
    EXPECT_EQ(other.error().code(), Errc::busy);
}

TEST_F(FunctionsTest, RefusesWhatCannotBe) {
    connect(1);
    EXPECT_EQ(set(9).error().code(), Errc::out_of_range);
    EXPECT_EQ(set(1, "80001").error().code(), Errc::not_supported);           // no SR-IOV
    EXPECT_EQ(set(1, "store/nvme0.vf0").error().code(), Errc::not_supported); // a function itself
    EXPECT_EQ(set(1, "store/none").error().code(), Errc::not_found);
    EXPECT_EQ(pool->set_functions({"80000", 2, {"u", false}}, now).error().code(), Errc::permission_denied);
    disconnect("store");
    EXPECT_EQ(set(2).error().code(), Errc::unavailable);
    EXPECT_TRUE(sent.empty());
    EXPECT_EQ(disk.trail.back().action, "set-functions-refused");
}

TEST_F(FunctionsTest, OnlyOfADeviceThatItsHostHas) {
    connect(0);
    ASSERT_TRUE(restore("80000"));
    EXPECT_EQ(set(2).error().code(), Errc::busy); // on its way
    done(StepKind::take);
    recover();
    EXPECT_EQ(set(2).error().code(), Errc::failed_precondition); // in the pool
    EXPECT_THAT(set(2).error().message(), HasSubstr("lanepool local"));
}

TEST_F(FunctionsTest, LeaveRoomForTheOtherDevicesOfTheHost) {
    options.devices_per_host = 4;
    restart();
    connect(0);
    EXPECT_EQ(set(3).error().code(), Errc::no_space);
    EXPECT_TRUE(set(2));
}

// ---- each is a device of its own

TEST_F(FunctionsTest, IsLentByItself) {
    connect(2);
    take_function("store/nvme0.vf0");
    take_function("store/nvme0.vf1");
    const LoanId first = lend_to("a", "store/nvme0.vf0");
    const LoanId second = lend_to("b", "store/nvme0.vf1");
    for (const LoanId id : {first, second}) {
        EXPECT_EQ(loan(id).state, LoanState::active);
        EXPECT_EQ(loan(id).access_model, AccessModel::vf);
        EXPECT_EQ(loan(id).guest, "g");
    }
    EXPECT_EQ(device().state, DeviceState::local);
}

TEST_F(FunctionsTest, MayBeClaimedByItsAgentFromTheStart) {
    connect(2, false, true);
    const LoanId id = lend_to("a", "store/nvme0.vf0");
    EXPECT_EQ(loan(id).access_model, AccessModel::vf);
}

TEST_F(FunctionsTest, ALoanOfAnyDeviceIsCalledVfFromWhenItHasOne) {
    connect(1, false, true);
    BorrowRequest request = this->request("a", "");
    request.devices[0].model = "part";
    ASSERT_TRUE(pool->borrow(request, now));
    keep();
    EXPECT_EQ(take(StepKind::prepare).access_model, AccessModel::vf);
}

TEST_F(FunctionsTest, NobodyAsksForVf) {
    connect(1, false, true);
    BorrowRequest request = this->request("a", "store/nvme0.vf0");
    request.access_model = AccessModel::vf;
    const auto refused = pool->borrow(request, now);
    keep();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Errc::invalid_argument);
}

TEST_F(FunctionsTest, OneThatIsLentIsReassignedAsAnyIs) {
    connect(1, false, true);
    const LoanId old = lend_to("a", "store/nvme0.vf0");
    const auto next = pool->reassign({fmt::format("loan:{}", old), "b", "g", owner(), false}, now);
    keep();
    ASSERT_TRUE(next) << next.error().message();
    done(StepKind::detach);
    recover();
    done(StepKind::prepare);
    done(StepKind::attach);
    EXPECT_EQ(loan(*next).access_model, AccessModel::vf);
    EXPECT_EQ(loan(*next).state, LoanState::active);
}

// ---- the parent

TEST_F(FunctionsTest, TheirParentIsNotTaken) {
    connect(2);
    const auto refused = restore("80000");
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Errc::busy);
    EXPECT_THAT(refused.error().message(), HasSubstr("2 SR-IOV functions (nvme0.vf0, nvme0.vf1)"));
    EXPECT_THAT(refused.error().message(), HasSubstr("lanepool functions 80000 0"));
    EXPECT_TRUE(sent.empty());
}

TEST_F(FunctionsTest, TheirParentIsNotTakenWhateverItsAgentCounts) {
    connect(1, false, true);
    lend_to("a", "store/nvme0.vf0");
    Hello hello = with_functions(1, false);
    hello.devices[0].functions = 0;
    hello.devices.back().loan = vf(0).loan;
    ASSERT_TRUE(say(hello, false));
    EXPECT_EQ(restore("80000").error().code(), Errc::busy);
}

TEST_F(FunctionsTest, AParentOfThePoolThatIsFoundWithSomeStaysWithItsHost) {
    connect(0);
    ASSERT_TRUE(restore("80000"));
    done(StepKind::take);
    recover();
    ASSERT_EQ(device().state, DeviceState::available);
    disconnect("store");
    ASSERT_TRUE(say(with_functions(2)));
    EXPECT_EQ(device().state, DeviceState::local);
    EXPECT_TRUE(device().kept_local);
    EXPECT_EQ(code_of(device().reason), Errc::busy);
    EXPECT_THAT(device().reason, HasSubstr("2 SR-IOV functions"));
    EXPECT_TRUE(sent.empty());
}

TEST_F(FunctionsTest, ADeviceThatHasSomeIsNotLent) {
    Hello hello = lender();
    hello.devices[1].functions = 1;
    ASSERT_TRUE(say(hello));
    ASSERT_TRUE(say(borrower("a", 1)));
    const auto by_name = borrow("a", "80001");
    ASSERT_FALSE(by_name);
    EXPECT_EQ(by_name.error().code(), Errc::busy);
    BorrowRequest request = this->request("a", "");
    request.devices[0].kind = "nvme";
    request.devices.push_back(request.devices[0]);
    const auto both = pool->borrow(request, now);
    keep();
    EXPECT_FALSE(both); // there is only one that can be had
}

// ---- nobody has one that is about to go

TEST_F(FunctionsTest, AreNotChangedWhileOneIsLent) {
    connect(1, false, true);
    lend_to("a", "store/nvme0.vf0");
    const auto refused = set(0);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Errc::busy);
    EXPECT_THAT(refused.error().message(), HasSubstr("lent to host a"));
    EXPECT_EQ(disk.trail.back().action, "set-functions-refused");
}

TEST_F(FunctionsTest, AreNotChangedWhileOneIsOnItsWay) {
    connect(1);
    ASSERT_TRUE(restore("store/nvme0.vf0"));
    EXPECT_EQ(set(0).error().code(), Errc::busy);
}

TEST_F(FunctionsTest, AreNotChangedWhileOneIsQueuedFor) {
    connect(1);
    BorrowRequest request = this->request("a", "store/nvme0.vf0");
    request.wait_s = BorrowRequest::wait_for_ever_s;
    const auto loans = pool->borrow(request, now);
    keep();
    ASSERT_TRUE(loans) << loans.error().message();
    const auto refused = set(0);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Errc::busy);
    EXPECT_THAT(refused.error().message(), HasSubstr("loan 1 of host a is queued"));
}

TEST_F(FunctionsTest, NobodyGetsOneWhileTheyAreChanged) {
    connect(2, false, true);
    ASSERT_TRUE(set(0));
    const auto loan = borrow("a", "store/nvme0.vf0");
    ASSERT_FALSE(loan);
    EXPECT_EQ(loan.error().code(), Errc::busy);
    BorrowRequest request = this->request("a", "");
    request.devices[0].kind = "nvme";
    request.devices[0].host = "store";
    request.wait_s = 10;
    const auto any = pool->borrow(request, now);
    keep();
    ASSERT_TRUE(any);
    EXPECT_EQ(pool->ledger().loans.find(any->front())->fdid, Fdid{0x80001}); // the one that is no function
    EXPECT_EQ(restore("80000").error().code(), Errc::busy);
}

TEST_F(FunctionsTest, NobodyTakesOneWhileTheyAreChanged) {
    connect(2);
    ASSERT_TRUE(set(0));
    EXPECT_EQ(restore("store/nvme0.vf0").error().code(), Errc::busy);
}

// ---- they go, and others come

TEST_F(FunctionsTest, ThatAreRemovedAreOffline) {
    connect(2, false, true);
    ASSERT_TRUE(set(0));
    done(StepKind::set_functions);
    ASSERT_TRUE(say(with_functions(0), false));
    EXPECT_EQ(vf(0).state, DeviceState::offline);
    EXPECT_FALSE(vf(0).clean);
    EXPECT_FALSE(vf(0).parent_changing);
    EXPECT_TRUE(restore("80000"));
}

TEST_F(FunctionsTest, ThatAreRemovedAreNotRestored) {
    connect(2);
    ASSERT_TRUE(set(0));
    done(StepKind::set_functions);
    ASSERT_TRUE(say(with_functions(0), false));
    const auto refused = restore("store/nvme0.vf0");
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Errc::unavailable);
    EXPECT_THAT(refused.error().message(), HasSubstr("has no such device any more"));
    EXPECT_TRUE(sent.empty());
}

TEST_F(FunctionsTest, ThatAreQuarantinedAreNotForgotten) {
    options.devices_per_host = 4;
    restart();
    connect(2, false, true);
    ASSERT_TRUE(pool->quarantine({"store/nvme0.vf0", "looks odd", owner()}, now));
    keep();
    ASSERT_TRUE(say(with_functions(0), false));
    Hello hello = with_functions(0);
    hello.devices.push_back(hello.devices[1]);
    hello.devices[2].name = "another";
    ASSERT_TRUE(say(hello, false));
    EXPECT_EQ(vf(0).state, DeviceState::quarantined);
    EXPECT_FALSE(pool->find_device("store/nvme0.vf1"));
}

TEST_F(FunctionsTest, UnderTheSameNameIsTheSameDeviceAndNotClean) {
    connect(1, false, true);
    const Fdid before = vf(0).fdid;
    ASSERT_TRUE(set(0));
    done(StepKind::set_functions);
    ASSERT_TRUE(say(with_functions(0), false));
    ASSERT_TRUE(set(1));
    done(StepKind::set_functions);
    Hello hello = with_functions(1, false, true);
    hello.devices.back().identity.serial = "another";
    ASSERT_TRUE(say(hello, false));
    EXPECT_EQ(vf(0).fdid, before);
    EXPECT_EQ(vf(0).state, DeviceState::recovering);
    recover();
    EXPECT_EQ(vf(0).state, DeviceState::available);
}

TEST_F(FunctionsTest, ThatStayByNameAreNewAllTheSame) {
    connect(1, false, true);
    ASSERT_TRUE(set(2));
    done(StepKind::set_functions);
    ASSERT_TRUE(say(with_functions(2, false, true), false));
    EXPECT_EQ(vf(0).state, DeviceState::recovering); // it was made anew, whatever its agent believes
    recover();
    EXPECT_EQ(vf(0).state, DeviceState::available);
}

TEST_F(FunctionsTest, AreNewWhoeverChangesTheirNumber) {
    connect(1, false, true);
    ASSERT_EQ(vf(0).state, DeviceState::available);
    ASSERT_TRUE(say(with_functions(2, false, true), false));
    EXPECT_EQ(vf(0).state, DeviceState::recovering);
    recover();
    done(StepKind::cut); // the second has never been lent, but nobody can tell them apart
    EXPECT_EQ(vf(0).state, DeviceState::available);
}

TEST_F(FunctionsTest, ALoanOfOneThatGoesIsLost) {
    connect(1, false, true);
    const LoanId id = lend_to("a", "store/nvme0.vf0");
    ASSERT_TRUE(say(with_functions(0), false));
    EXPECT_EQ(loan(id).state, LoanState::failed);
    EXPECT_EQ(vf(0).state, DeviceState::offline);
}

TEST_F(FunctionsTest, ThatAreGoneMakePlaceForOthers) {
    options.devices_per_host = 6;
    restart();
    connect(4, false, true);
    const LoanId id = lend_to("a", "store/nvme0.vf0");
    ASSERT_TRUE(say(with_functions(0), false));
    done(StepKind::detach);
    ASSERT_EQ(pool->ledger().devices.size(), 6u);
    Hello renamed = with_functions(0);
    for (int i = 0; i < 3; ++i) {
        ObservedDevice drive;
        drive.name = fmt::format("drive{}", i);
        drive.identity.serial = drive.name;
        drive.answering = drive.clean = true;
        renamed.devices.push_back(drive);
    }
    ASSERT_TRUE(say(renamed, false));
    EXPECT_EQ(pool->ledger().devices.size(), 6u);
    EXPECT_FALSE(pool->find_device("store/nvme0.vf0")); // the first ones
    EXPECT_TRUE(pool->find_device("store/nvme0.vf3"));
    EXPECT_EQ(disk.trail[disk.trail.size() - 4].action, "join");
    // What was lent of them is remembered, also after a restart.
    restart();
    EXPECT_EQ(loan(id).state, LoanState::failed);
    ASSERT_TRUE(say(renamed));
    // What is there is never forgotten.
    renamed.devices.resize(renamed.devices.size() + 2, renamed.devices.back());
    renamed.devices[renamed.devices.size() - 2].name = "drive3";
    renamed.devices.back().name = "drive4";
    EXPECT_EQ(say(renamed, false).error().code(), Errc::no_space);
}

// ---- somebody dies in the middle

TEST_F(FunctionsTest, TheStepIsAskedForAgainAfterItsAgentWasAway) {
    connect(0);
    ASSERT_TRUE(set(2));
    const Order first = take(StepKind::set_functions);
    disconnect("store");
    ASSERT_TRUE(say(with_functions(0)));
    EXPECT_EQ(take(StepKind::set_functions).step.id, first.step.id);
    disconnect("store");
    ASSERT_TRUE(say(with_functions(2))); // it had been done
    EXPECT_TRUE(sent.empty());
    EXPECT_EQ(pool->awaited({0x80000}), nullptr);
}

TEST_F(FunctionsTest, TheStepIsGivenUpWithItsHost) {
    connect(1, false, true);
    ASSERT_TRUE(set(2));
    disconnect("store");
    pass(options.lender_grace_ms + 1);
    EXPECT_EQ(pool->awaited({0x80000}), nullptr);
    EXPECT_FALSE(vf(0).parent_changing);
    sent.clear();
    ASSERT_TRUE(say(with_functions(1, false, true)));
    EXPECT_EQ(vf(0).state, DeviceState::available);
    EXPECT_TRUE(sent.empty());
}

TEST_F(FunctionsTest, TheStepSurvivesTheController) {
    connect(0);
    ASSERT_TRUE(set(2));
    restart();
    sent.clear();
    ASSERT_TRUE(say(with_functions(0)));
    const Order again = take(StepKind::set_functions);
    EXPECT_EQ(again.step.functions, 2u);
    answer(again);
    ASSERT_TRUE(say(with_functions(2), false));
    EXPECT_EQ(pool->awaited({0x80000}), nullptr);
}

} // namespace
} // namespace lanepool::pool
