// SPDX-License-Identifier: Apache-2.0
//
// What agents say of accesses that an IOMMU has stopped.
#include "pool/test_bench.h"

#include <gmock/gmock.h>

namespace lanepool::pool {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class FaultsTest : public testing::Bench {
  protected:
    void fault(LoanId of, uint64_t count = 1, const std::string& text = "DMA write to 0x1000",
               const std::string& host = "store", const std::string& device = "nvme0") {
        const Loan* found = pool->ledger().loans.find(of);
        pool->faulted(host, {device, of, found ? found->epoch : Epoch{}, text, count}, now);
        keep();
    }
    std::vector<AuditEntry> entries() const {
        std::vector<AuditEntry> found;
        for (const auto& entry : disk.trail)
            if (entry.action == "iommu-fault") found.push_back(entry);
        return found;
    }
    std::vector<std::string> reasons() const {
        std::vector<std::string> found;
        for (const auto& entry : entries())
            found.push_back(entry.reason);
        return found;
    }
};

TEST_F(FaultsTest, AreAuditedWithTheDeviceAndTheLoan) {
    connect_all();
    const LoanId id = lend_to("a");
    fault(id);
    ASSERT_THAT(entries(), SizeIs(1));
    const AuditEntry entry = entries()[0];
    EXPECT_EQ(entry.actor, "agent:store");
    EXPECT_EQ(entry.subject, "device:80000");
    EXPECT_EQ(entry.fdid, Fdid{0x80000});
    EXPECT_EQ(entry.loan, id);
    EXPECT_EQ(entry.epoch, loan(id).epoch);
    EXPECT_EQ(entry.reason, "DMA write to 0x1000");
    EXPECT_EQ(loan(id).state, LoanState::active);
    EXPECT_EQ(device().state, DeviceState::lent);
    EXPECT_THAT(sent, IsEmpty());
}

TEST_F(FaultsTest, OfADeviceThatNobodyHasAreToo) {
    connect_all();
    fault({});
    ASSERT_THAT(entries(), SizeIs(1));
    EXPECT_EQ(entries()[0].loan, LoanId{});
    EXPECT_EQ(entries()[0].epoch, device().epoch);
}

TEST_F(FaultsTest, AStormIsCounted) {
    connect_all();
    const LoanId id = lend_to("a");
    fault(id, 3);
    for (int i = 0; i < 100; ++i)
        fault(id, 4);
    pass(4'999);
    fault(id, 10);
    pass(1);
    fault(id, 3, "DMA read of 0x2000");
    EXPECT_THAT(reasons(),
                ElementsAre("DMA write to 0x1000, and 2 more", "DMA read of 0x2000, and 412 more"));
    pass(5'000);
    fault(id, UINT64_MAX);
    fault(id, UINT64_MAX);
    fault(id, UINT64_MAX);
    pass(5'000);
    fault(id);
    EXPECT_EQ(reasons().back(), fmt::format("DMA write to 0x1000, and {} more", UINT64_MAX));
}

TEST_F(FaultsTest, TheFirstOfALoanIsToldAtOnceAndThoseOfItsPredecessorsAreNot) {
    connect_all();
    const LoanId first = lend_to("a");
    fault(first);
    pool->reclaim({"loan:1", "too long", owner()}, now);
    keep();
    recover();
    const LoanId second = lend_to("b");
    fault(second);
    for (int i = 0; i < 10; ++i) {
        fault(first);
        fault(second);
        fault({});
    }
    ASSERT_THAT(entries(), SizeIs(2));
    EXPECT_EQ(entries()[0].loan, first);
    EXPECT_EQ(entries()[1].loan, second);
}

TEST_F(FaultsTest, ALoanThatIsNotOfTheDeviceIsNotNamed) {
    connect_all();
    const LoanId id = lend_to("a", "80001");
    fault(id);
    EXPECT_EQ(entries().at(0).loan, LoanId{});
    pass(5'000);
    pool->faulted("store", {"nvme1", id, Epoch{1000}, "x", 1}, now);
    keep();
    EXPECT_EQ(entries().at(1).loan, LoanId{});
    EXPECT_EQ(entries().at(1).epoch, device(0x80001).epoch);
}

TEST_F(FaultsTest, OnlyOfAHostsOwnDevicesAndNothingElse) {
    connect_all();
    const LoanId id = lend_to("a");
    fault(id, 1, "x", "a");                // another host's
    fault(id, 1, "x", "a", "store/nvme0"); // by its full name
    fault(id, 1, "x", "store", "nvme7");   // there is none
    fault(id, 1, "x", "store", "");
    fault(id, 1, "x", "store", std::string(100'000, 'n'));
    fault(id, 0); // none at all
    EXPECT_THAT(entries(), IsEmpty());
}

TEST_F(FaultsTest, ALongOrUglyTextIsCutAndItsCountIsNot) {
    connect_all();
    fault({}, 413, "\n\x1b[2J" + std::string(100'000, 'x'));
    const std::string reason = reasons().at(0);
    EXPECT_LE(reason.size(), longest_text);
    EXPECT_TRUE(reason.starts_with("  [2Jxxx"));
    EXPECT_TRUE(reason.ends_with("x, and 412 more"));
}

TEST_F(FaultsTest, OneThatCouldNotBeStoredIsNotCounted) {
    connect_all();
    const LoanId id = lend_to("a");
    pool->faulted("store", {"nvme0", id, loan(id).epoch, "x", 5}, now);
    ASSERT_TRUE(pool->outcome());
    pool->rollback();
    fault(id);
    EXPECT_THAT(reasons(), ElementsAre("DMA write to 0x1000"));
}

} // namespace
} // namespace lanepool::pool
