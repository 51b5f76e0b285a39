// SPDX-License-Identifier: Apache-2.0
#include "cli/table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lanepool::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

v1::Device& add(v1::DeviceList& list, uint64_t fdid, const std::string& name,
                const std::string& parent = "") {
    auto& device = *list.add_devices();
    device.set_fdid(fdid);
    device.set_name(name);
    device.set_parent(parent);
    device.set_state("available");
    return device;
}

TEST(DevicesText, HasNoColumnForFunctionsWhereThereAreNone) {
    v1::DeviceList list;
    add(list, 0x80000, "store/nvme0");
    EXPECT_EQ(devices_text(list),
              "FDID   DEVICE       KIND  MODEL  CAPACITY  STATE      BORROWER  LOAN  REASON\n"
              "80000  store/nvme0  -     -      -         available  -         -     -\n");
}

TEST(DevicesText, ShowsFunctionsBelowTheirParent) {
    v1::DeviceList list;
    auto& parent = add(list, 0x80000, "store/nic0");
    parent.set_functions(2);
    parent.set_most_functions(8);
    add(list, 0x80001, "store/nvme0");
    add(list, 0x80002, "store/nic0.vf0", "store/nic0");
    add(list, 0x80003, "store/nic0.vf1", "store/nic0");
    EXPECT_EQ(devices_text(list),
              "FDID   DEVICE            VFS  KIND  MODEL  CAPACITY  STATE      BORROWER  LOAN  REASON\n"
              "80000  store/nic0        2/8  -     -      -         available  -         -     -\n"
              "80002    store/nic0.vf0  -    -     -      -         available  -         -     -\n"
              "80003    store/nic0.vf1  -    -     -      -         available  -         -     -\n"
              "80001  store/nvme0       -    -     -      -         available  -         -     -\n");
}

TEST(DevicesText, ShowsEachOnceWhateverTheirParents) {
    v1::DeviceList list;
    add(list, 0x80000, "store/a", "store/gone");
    add(list, 0x80001, "store/b");
    add(list, 0x80002, "store/b"); // another one of that name, before
    add(list, 0x80003, "store/b.vf0", "store/b");
    const std::string text = devices_text(list);
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 5);
    EXPECT_THAT(text, HasSubstr("80000    store/a"));
}

v1::Loan& add(v1::LoanList& list, uint64_t id, const std::string& guest) {
    auto& loan = *list.add_loans();
    loan.set_id(id);
    loan.set_device("store/nvme0");
    loan.set_borrower("a");
    loan.set_guest(guest);
    loan.set_access_model("lending");
    loan.set_state("active");
    return loan;
}

TEST(LoansText, HasNoColumnsForOwnKernelsWhereNoneBorrows) {
    v1::LoanList list;
    add(list, 1, "g");
    auto& shared = add(list, 2, "");
    shared.set_access_model("smartio");
    shared.set_shared(true);
    EXPECT_EQ(
        loans_text(list),
        "LOAN  DEVICE       BORROWER  GUEST  ACCESS          STATE   TENANT  PRIORITY  SINCE  DUE  REASON\n"
        "1     store/nvme0  a         g      lending         active  -       0         -      -    -\n"
        "2     store/nvme0  a         -      smartio,shared  active  -       0         -      -    -\n");
}

TEST(LoansText, ShowsWhatAnOwnKernelHas) {
    v1::LoanList list;
    add(list, 1, "g");
    auto& loan = add(list, 2, "");
    loan.set_dma("bounce");
    loan.set_dma_bytes(8 << 20);
    loan.set_function("1ff00:00:00.0");
    loan.set_driver("nvme");
    add(list, 3, "").set_state("queued");
    EXPECT_EQ(loans_text(list), "LOAN  DEVICE       BORROWER  GUEST     ACCESS   DMA             FUNCTION    "
                                "   DRIVER  STATE   TENANT  "
                                "PRIORITY  SINCE  DUE  REASON\n"
                                "1     store/nvme0  a         g         lending  -               -           "
                                "   -       active  -       "
                                "0         -      -    -\n"
                                "2     store/nvme0  a         (kernel)  lending  bounce 8.0 MiB  "
                                "1ff00:00:00.0  nvme    active  -       "
                                "0         -      -    -\n"
                                "3     store/nvme0  a         (kernel)  lending  -               -           "
                                "   -       queued  -       "
                                "0         -      -    -\n");
}

TEST(HostsText, ShowsHowOwnKernelsCanBorrowWhereOneCan) {
    v1::HostList list;
    auto& host = *list.add_hosts();
    host.set_name("a");
    host.set_state("up");
    host.add_guests("g");
    EXPECT_EQ(hosts_text(list), "HOST  STATE  PORT  LENDS  BORROWS  GUESTS  WINDOWS FREE  LAST SEEN\n"
                                "a     up     0     no     no       g       0/0           -\n");
    host.add_dma_modes("bounce");
    host.add_dma_modes("iommu");
    EXPECT_EQ(hosts_text(list),
              "HOST  STATE  PORT  LENDS  BORROWS  GUESTS  KERNEL DMA    WINDOWS FREE  LAST SEEN\n"
              "a     up     0     no     no       g       bounce,iommu  0/0           -\n");
}

TEST(ReceiptText, SaysWhatAnOwnKernelHasGot) {
    v1::LoanList list;
    auto& loan = add(list, 1, "");
    EXPECT_EQ(receipt_text(loan), "");
    loan.set_dma("bounce");
    loan.set_dma_bytes(8 << 20);
    loan.set_function("1ff00:00:00.0");
    loan.set_driver("nvme");
    EXPECT_EQ(receipt_text(loan), "a has store/nvme0 as 1ff00:00:00.0, driver nvme, bounce pool of 8.0 MiB");
    loan.set_dma("iommu");
    loan.set_driver("");
    EXPECT_EQ(receipt_text(loan),
              "a has store/nvme0 as 1ff00:00:00.0, no driver yet, iommu, 8.0 MiB of addresses");
    loan.set_dma("direct");
    EXPECT_EQ(receipt_text(loan),
              "a has store/nvme0 as 1ff00:00:00.0, no driver yet, direct, all memory of the host");
    loan.set_state("returned");
    EXPECT_EQ(receipt_text(loan), "");
}

} // namespace
} // namespace lanepool::cli
