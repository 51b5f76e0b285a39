// SPDX-License-Identifier: Apache-2.0
//
// Which of several devices a wish gets, and a group of wishes together.
#include "pool/scheduler_bench.h"

namespace lanepool::pool::testing {
namespace {

using ::testing::IsEmpty;

TEST_F(SchedulerTest, TheNearestDeviceIsTaken) {
    add_host("far", {"row 2", "rack 9"});
    add_host("near", {"row 1", "rack 2"});
    add_device("far");
    add_device("store");
    const Fdid near = add_device("near");
    queue(wish("a"));
    EXPECT_EQ(decide().starts.front().fdid, near);
}

TEST_F(SchedulerTest, NearMayBeAnotherHostThanTheBorrower) {
    add_device("store");
    const Fdid there = add_device("b");
    Loan loan = wish("a");
    loan.near = "b";
    queue(loan);
    EXPECT_EQ(decide().starts.front().fdid, there);
}

TEST_F(SchedulerTest, AnUnknownLocationIsFar) {
    add_host("nowhere");
    add_device("nowhere");
    const Fdid near = add_device("store");
    queue(wish("a"));
    EXPECT_EQ(decide().starts.front().fdid, near);
}

TEST_F(SchedulerTest, EquallyNearTheLenderWithMoreRoomIsTaken) {
    add_host("c1", {"row 1", "rack 2"}, 5);
    add_host("c2", {"row 1", "rack 2"}, 50);
    add_device("c1");
    const Fdid roomy = add_device("c2");
    queue(wish("a"));
    EXPECT_EQ(decide().starts.front().fdid, roomy);
}

TEST_F(SchedulerTest, RoomThatThisDecisionTakesCounts) {
    add_host("c1", {"row 1", "rack 2"}, 50);
    add_host("c2", {"row 1", "rack 2"}, 50);
    const Fdid first = add_device("c1");
    add_device("c1");
    const Fdid second = add_device("c2");
    const LoanId one = queue(wish("a"));
    const LoanId other = queue(wish("a"));
    EXPECT_EQ(given(decide()), (std::map<LoanId, Fdid>{{one, first}, {other, second}}));
}

TEST_F(SchedulerTest, OfOneHostTheSmallestThatSufficesIsTaken) {
    add_device("store", "nvme", 4000);
    const Fdid fits = add_device("store", "nvme", 2000);
    add_device("store", "nvme", 1000);
    Loan loan = wish("a");
    loan.wanted.least_capacity_bytes = 1500;
    queue(loan);
    EXPECT_EQ(decide().starts.front().fdid, fits);
}

TEST_F(SchedulerTest, OfEqualDevicesTheLowestFdidIsTaken) {
    const Fdid first = add_device("store");
    add_device("store");
    queue(wish("a"));
    EXPECT_EQ(decide().starts.front().fdid, first);
}

TEST_F(SchedulerTest, ADeviceIsNamedByItsFdidOrItsName) {
    add_device("store");
    const Fdid second = add_device("store");
    const Fdid third = add_device("store");
    Loan by_fdid = wish("a");
    by_fdid.wanted = {};
    by_fdid.wanted.device = fmt::format("0x{}", second);
    Loan by_name = wish("a");
    by_name.wanted = {};
    by_name.wanted.device = devices.at(third).full_name();
    queue(by_fdid);
    queue(by_name);
    EXPECT_EQ(given(decide()), (std::map<LoanId, Fdid>{{by_fdid.id, second}, {by_name.id, third}}));
}

TEST_F(SchedulerTest, AWishForOneHostGetsADeviceOfIt) {
    add_device("store");
    const Fdid there = add_device("b");
    Loan loan = wish("a");
    loan.wanted.host = "b";
    queue(loan);
    EXPECT_EQ(decide().starts.front().fdid, there);
}

TEST_F(SchedulerTest, AWishForOneHostWakesWhenThatHasADevice) {
    add_device("store");
    Loan loan = wish("a");
    loan.wanted.host = "b";
    queue(loan);
    EXPECT_THAT(decide().starts, IsEmpty());
    const Fdid there = add_device("b");
    EXPECT_EQ(given(decide()), (std::map<LoanId, Fdid>{{loan.id, there}}));
}

// ---- Groups

TEST_F(SchedulerTest, AGroupGetsDistinctDevices) {
    add_device("store");
    add_device("b");
    const LoanId group = queue_group({wish("a"), wish("a")});
    const auto served = given(decide());
    ASSERT_EQ(served.size(), 2u);
    EXPECT_NE(served.at(group), served.at(group.next()));
}

TEST_F(SchedulerTest, AGroupGetsAllOrNone) {
    add_device("store");
    queue_group({wish("a"), wish("a")});
    EXPECT_THAT(decide().starts, IsEmpty());
    add_device("store");
    EXPECT_EQ(decide().starts.size(), 2u);
}

TEST_F(SchedulerTest, AGroupIsMatchedSoThatAllGetOne) {
    // The first wish would take the only device that the second one can use.
    add_device("store", "nvme", 4000);
    const Fdid big = add_device("store", "nvme", 3000);
    add_device("b", "nvme", 5000);
    Loan any = wish("a");
    any.wanted.least_capacity_bytes = 2000;
    Loan picky = wish("a");
    picky.wanted = {};
    picky.wanted.device = fmt::format("{}", big);
    queue_group({any, picky});
    const auto served = given(decide());
    ASSERT_EQ(served.size(), 2u);
    EXPECT_EQ(served.at(picky.id), big);
}

TEST_F(SchedulerTest, AGroupIsMatchedWithinTheLendersRoom) {
    // Only one window at store: the picky wish needs it, the other one has to go elsewhere.
    change_host("store", [](Host& host) { host.windows_free = 1; });
    add_device("store", "nvme", 1000);
    add_device("store", "gpu");
    const Fdid elsewhere = add_device("b", "nvme", 9000);
    const Loan any = wish("a");
    const Loan gpu = wish("a", "gpu");
    queue_group({any, gpu});
    const auto served = given(decide());
    ASSERT_EQ(served.size(), 2u);
    EXPECT_EQ(served.at(any.id), elsewhere);
}

TEST_F(SchedulerTest, AGroupNearAHostCountsThatHostsDevicesOnce) {
    add_device("b");
    add_device("store");
    Loan first = wish("a");
    Loan second = wish("a");
    first.near = second.near = "b";
    queue_group({first, second});
    EXPECT_EQ(decide().starts.size(), 2u);
}

TEST_F(SchedulerTest, AGroupThatHasChangedIsAnotherOne) {
    add_device("store");
    const LoanId group = queue_group({wish("a"), wish("a")});
    EXPECT_THAT(decide().starts, IsEmpty());
    erase_loan(group.next());
    EXPECT_EQ(decide().starts.size(), 1u);
}

} // namespace
} // namespace lanepool::pool::testing
