// SPDX-License-Identifier: Apache-2.0
//
// What users of today's systems complain about: which device it is, what becomes of the others when one is
// taken away, and what the last tenant left on it.
#include "pool/field_bench.h"

#include <gmock/gmock.h>

#include <algorithm>

namespace lanepool::pool {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using enum StepKind;
using testing::FieldComplaint;

// Numbers that change over a reboot are taken for who a device is. Here that is its host, its name and its
// serial number. (IOMMU groups of real hosts come with these: what an agent says of one is `iommu`, whether
// the device is isolated, and never a number.)
TEST_F(FieldComplaint, No7ADeviceIsItsSerialNumberWhateverItsAddress) {
    const auto id = lend_to("a", "80001");
    Hello other = lender();
    other.instance = "after the reboot";
    other.partition = 7;
    std::swap(other.devices[0], other.devices[1]);
    other.devices[0].loan = id;
    other.devices[0].epoch = loan(id).epoch;
    other.devices[0].clean = false;
    const auto fdids = say(other);
    ASSERT_TRUE(fdids);
    EXPECT_THAT(*fdids, ElementsAre(Fdid{0x80001}, Fdid{0x80000}));
    EXPECT_EQ(loan(id).state, LoanState::active);
    EXPECT_EQ(pool->ledger().devices.size(), 2u);
    // Another drive in the same place is another device, and what the first was allowed is not its own.
    other.devices[0] = lender().devices[1];
    other.devices[0].identity.serial = "another";
    EXPECT_THAT(say(other, false).value(), ElementsAre(Fdid{0x80002}, Fdid{0x80000}));
    EXPECT_TRUE(has_ended(loan(id).state));
    EXPECT_EQ(device(0x80001).state, DeviceState::offline);
    EXPECT_EQ(device(0x80002).loan, LoanId{});
}

// An isolation that does not suffice, without a clear error; and one device of several that does not fit.
TEST_F(FieldComplaint, No7MissingIsolationIsRefusedAsAWhole) {
    Rule isolated;
    isolated.name = "isolated only";
    isolated.needs_iommu = true;
    site.rules = {isolated};
    ASSERT_TRUE(pool->apply_site(site, "text", owner(), now));
    Hello half = lender();
    half.devices[0].iommu = true;
    ASSERT_TRUE(say(half, false));
    sent.clear();
    BorrowRequest both = request("a");
    both.caller = {"ann", false};
    both.devices.push_back(both.devices[0]);
    both.devices[1].device = "80001";
    const auto refused = pool->borrow(both, now);
    keep();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Errc::failed_precondition);
    EXPECT_THAT(refused.error().message(),
                AllOf(HasSubstr("rule isolated only"), HasSubstr("80001 (store/nvme1)"), HasSubstr("IOMMU"),
                      HasSubstr("enable it there, or take another device")));
    EXPECT_EQ(free_devices(), 2u);
    EXPECT_THAT(sent, IsEmpty());
    // One that loses its isolation goes on until its end, and is not lent again.
    both.devices.pop_back();
    ASSERT_TRUE(pool->borrow(both, now));
    keep();
    done(prepare);
    done(attach);
    half.devices[0] = lender_now({1}, loan({1}).epoch).devices[0];
    ASSERT_TRUE(say(half, false));
    EXPECT_EQ(loan({1}).state, LoanState::active);
    force_away();
    recover();
    EXPECT_EQ(pool->borrow(both, now).error().code(), Errc::failed_precondition);
}

// To reclaim a device in use took its host down. Here the lender cuts it off without asking anybody, the
// borrower's guest finds that function gone, and whoever else lends or borrows there goes on.
TEST_F(FieldComplaint, No10ReclaimingADeviceInUseHarmsNobodyElse) {
    const auto taken = lend_to("a", "80000");
    const auto kept = lend_to("a", "80001");
    force_away();
    const Order cut_off = take(cut);
    EXPECT_EQ(cut_off.step.fdid, Fdid{0x80000});
    // Nobody waits for the guest, whether it lets go, takes long or has died.
    const Order forget = take(detach);
    EXPECT_EQ(forget.step.host, "a");
    EXPECT_TRUE(forget.step.cleanup);
    EXPECT_EQ(forget.step.loan, taken);
    EXPECT_THAT(sent, IsEmpty()); // nothing is asked of the host as such, nor of the other loan
    answer(cut_off);
    done(reset);
    done(sanitize);
    EXPECT_EQ(device().state, DeviceState::available);
    EXPECT_EQ(loan(kept).state, LoanState::active);
    EXPECT_EQ(device(0x80001).state, DeviceState::lent);
    for (const auto& [name, host] : pool->ledger().hosts.all())
        EXPECT_TRUE(host.up) << name;
    answer(forget, false, "the guest hangs");
    EXPECT_EQ(device().state, DeviceState::available);
    EXPECT_EQ(loan(kept).state, LoanState::active);
}

// No scrub between tenants: the next one finds what the last one left.
TEST_F(FieldComplaint, No11NobodyGetsADeviceBeforeItsWipeHasVerified) {
    const auto first = lend_to("a");
    const auto next = pool->borrow(waiting(request("b")), now);
    ASSERT_TRUE(next);
    force_away();
    done(cut);
    done(reset);
    EXPECT_FALSE(device().clean);
    EXPECT_EQ(loan(next->front()).state, LoanState::queued);
    // Not after a restart of either side, and not because its host says that it is clean.
    restart();
    Hello again = lender();
    again.instance = "2";
    again.devices[0].epoch = device().epoch;
    sent.clear();
    ASSERT_TRUE(say(again));
    ASSERT_TRUE(say(borrower("b", 2)));
    EXPECT_EQ(loan(next->front()).state, LoanState::queued);
    EXPECT_FALSE(device().clean);
    EXPECT_EQ(device().loan, first);
    done(sanitize);
    EXPECT_EQ(loan(next->front()).state, LoanState::preparing);
}

TEST_F(FieldComplaint, No11AFailedWipeKeepsTheDeviceFromEverybody) {
    const auto first = lend_to("a");
    const auto next = pool->borrow(waiting(request("b")), now);
    ASSERT_TRUE(next);
    force_away();
    done(cut);
    done(reset);
    failed(sanitize, "block 7 still has data in it");
    EXPECT_EQ(loan(first).state, LoanState::failed);
    EXPECT_EQ(device().state, DeviceState::quarantined);
    EXPECT_THAT(device().reason, HasSubstr("block 7 still has data in it"));
    const auto refused = borrow("c");
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message(), HasSubstr("block 7 still has data in it"));
    EXPECT_EQ(loan(next->front()).state, LoanState::queued);
    // It comes back by a wipe that verifies, and by nothing else.
    ASSERT_TRUE(say(lender(), false));
    EXPECT_EQ(device().state, DeviceState::quarantined);
    ASSERT_TRUE(pool->restore({"80000", owner()}, now));
    keep();
    done(cut);
    done(reset);
    EXPECT_FALSE(device().clean);
    EXPECT_EQ(loan(next->front()).state, LoanState::queued);
    done(sanitize);
    EXPECT_EQ(loan(next->front()).state, LoanState::preparing);
}

// Where the site says that nothing has to be erased, that is for loans of that rule alone.
TEST_F(FieldComplaint, No11OnlyTheRuleOfTheLoanMaySpareTheWipe) {
    Rule scratch;
    scratch.name = "scratch";
    scratch.hosts = {"a"};
    scratch.sanitize = false;
    Rule other;
    other.name = "other";
    site.rules = {scratch, other};
    ASSERT_TRUE(pool->apply_site(site, "text", owner(), now));
    for (const char* host : {"a", "b"}) {
        BorrowRequest asked = request(host);
        asked.caller = {"ann", false};
        ASSERT_TRUE(pool->borrow(asked, now));
        keep();
        done(prepare);
        done(attach);
        force_away();
        done(cut);
        const Order reset_order = take(reset);
        EXPECT_EQ(reset_order.step.suffices, std::string(host) == "a");
        answer(reset_order);
        EXPECT_EQ(device().clean, std::string(host) == "a");
        if (std::string(host) == "b") done(sanitize);
        EXPECT_TRUE(device().clean);
        sent.clear();
    }
}

} // namespace
} // namespace lanepool::pool
