// SPDX-License-Identifier: Apache-2.0
#include "agent/iommu_faults.h"

#include <cerrno>
#include <gmock/gmock.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

namespace lanepool::agent {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using Access = IommuFault::Access;

std::string said(std::string_view message) {
    const auto fault = parse_iommu_fault(message);
    if (!fault) return "nothing";
    return fmt::format("{}{} {}", fault->domain_known ? "" : "?", pci::to_string(fault->address),
                       to_string(*fault));
}

TEST(IommuFaults, OfVtdAsLinux61And612SayThem) {
    EXPECT_EQ(
        said("DMAR: [DMA Write NO_PASID] Request device [01:00.0] fault addr 0x1a00000 [fault reason "
             "0x05] PTE Write access is not set"),
        "?0000:01:00.0 DMA write to 0x1a00000 stopped by the IOMMU: fault reason 0x05, PTE Write access "
        "is not set");
    EXPECT_EQ(
        said("DMAR: [DMA Read NO_PASID] Request device [af:1f.7] fault addr 0xfffffffffffff000 [fault "
             "reason 0x06] PTE Read access is not set"),
        "?0000:af:1f.7 DMA read of 0xfffffffffffff000 stopped by the IOMMU: fault reason 0x06, PTE Read "
        "access is not set");
    EXPECT_EQ(said("DMAR: [DMA Write PASID 0x1] Request device [01:00.2] fault addr 0x0 [fault reason 0x80] "
                   "SM: Present bit in first-level paging entry is clear"),
              "?0000:01:00.2 DMA write to 0x0 stopped by the IOMMU: fault reason 0x80, SM: Present bit in "
              "first-level paging entry is clear");
    EXPECT_EQ(said("DMAR: [INTR-REMAP] Request device [02:00.0] fault index 0x7 [fault reason 0x22] Present "
                   "field in the IRTE entry is clear"),
              "?0000:02:00.0 interrupt request at 0x7 stopped by the IOMMU: fault reason 0x22, Present field "
              "in the IRTE entry is clear");
}

TEST(IommuFaults, OfVtdAsOlderKernelsSayThem) {
    EXPECT_EQ(
        said("DMAR: [DMA Write] Request device [03:00.1] PASID ffffffff fault addr fee00000 [fault "
             "reason 05] PTE Write access is not set"),
        "?0000:03:00.1 DMA write to 0xfee00000 stopped by the IOMMU: fault reason 0x05, PTE Write access "
        "is not set");
    EXPECT_EQ(said("DMAR: [DMA Read NO_PASID] Request device [0x03:0x00.1] fault addr 0x7f000 [fault reason "
                   "0x0c] non-zero reserved fields in PTE"),
              "?0000:03:00.1 DMA read of 0x7f000 stopped by the IOMMU: fault reason 0x0c, non-zero reserved "
              "fields in PTE");
    EXPECT_EQ(said("DMAR: [DMA Read] Request device [03:00.1] fault addr 7f000 [fault reason 12] non-zero "
                   "reserved fields in PTE"),
              "?0000:03:00.1 DMA read of 0x7f000 stopped by the IOMMU: fault reason 0x0c, non-zero reserved "
              "fields in PTE");
    EXPECT_EQ(said("DMAR:[DMA Read] Request device [03:00.1] fault addr 7f000 "),
              "?0000:03:00.1 DMA read of 0x7f000 stopped by the IOMMU");
}

TEST(IommuFaults, OfAmd) {
    EXPECT_EQ(said("AMD-Vi: Event logged [IO_PAGE_FAULT device=01:00.0 domain=0x000e address=0x10e000 "
                   "flags=0x0030]"),
              "?0000:01:00.0 DMA write to 0x10e000 stopped by the IOMMU: IO_PAGE_FAULT, flags 0x0030");
    EXPECT_EQ(
        said("AMD-Vi: Event logged [IO_PAGE_FAULT device=0001:c1:00.3 domain=0x000e "
             "address=0xffffffffffff0000 flags=0x0000]"),
        "0001:c1:00.3 DMA read of 0xffffffffffff0000 stopped by the IOMMU: IO_PAGE_FAULT, flags 0x0000");
    EXPECT_EQ(
        said("vfio-pci 0000:01:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x000e "
             "address=0xfee00000 flags=0x0008]"),
        "0000:01:00.0 interrupt request at 0xfee00000 stopped by the IOMMU: IO_PAGE_FAULT, flags 0x0008");
    EXPECT_EQ(said("AMD-Vi: Event logged [ILLEGAL_DEV_TABLE_ENTRY device=0000:01:00.0 pasid=0x00000 "
                   "address=0x1000 flags=0x0000]"),
              "0000:01:00.0 DMA read of 0x1000 stopped by the IOMMU: ILLEGAL_DEV_TABLE_ENTRY, flags 0x0000");
}

TEST(IommuFaults, OtherMessagesAreNone) {
    for (const char* message : {
             "",
             "DMAR:",
             "DMAR: DRHD: handling fault status reg 2",
             "DMAR: Host address width 39",
             "DMAR: [DMA Write NO_PASID] Request device [",
             "DMAR: [DMA Write NO_PASID] Request device [01:00.0]",
             "DMAR: [DMA Write NO_PASID] Request device [01:00.0] fault addr ",
             "DMAR: [DMA Write NO_PASID] Request device [01:00.0] fault addr x",
             "DMAR: [DMA Write NO_PASID] Request device [01:00.0] fault addr 0x10000000000000000",
             "DMAR: [DMA Write NO_PASID] Request device [01:20.0] fault addr 0x1000",
             "DMAR: [DMA Write NO_PASID] Request device [0ffff:01:00.0] fault addr 0x1000",
             "DMAR: [DMA Write] Request device [01:00.0] PASID fault addr 0x1000",
             "DMAR: [Sleep] Request device [01:00.0] fault addr 0x1000",
             "EXT4-fs (DMAR: [DMA Write NO_PASID] Request device [01:00.0] fault addr 0x1000): mounted",
             "AMD-Vi: Event logged [IO_PAGE_FAULT device=01:00.0 domain=0x000e address=0x10e000",
             "AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x000e address=0x10e000 flags=0x0030]",
             "AMD-Vi: Event logged [IO_PAGE_FAULT device=01:00.0 device=02:00.0 address=0x1 flags=0x0]",
             "AMD-Vi: Event logged [IO_PAGE_FAULT device=01:00.0 address= flags=0x0]",
             "AMD-Vi: Event logged [IOTLB_INV_TIMEOUT device=01:00.0 address=0x1000]",
             "AMD-Vi: Event logged []",
             "vfio-pci 0000:01:00.0: enabling device (0000 -> 0002)",
             "vfio-pci nowhere: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x1 address=0x1 flags=0x0]",
             "/bin/evil vfio-pci 0000:01:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x1 address=0x1 "
             "flags=0x0]",
         })
        EXPECT_EQ(said(message), "nothing") << message;
}

TEST(IommuFaults, CutOrDamagedOnesHarmNothing) {
    for (const std::string_view whole :
         {"3,812,12,-,caller=T1;DMAR: [DMA Write PASID 0x1] Request device [01:00.2] fault addr 0x10 [fault "
          "reason 0x05] PTE Write access is not set\n SUBSYSTEM=pci\n",
          "4,1,1,-;vfio-pci 0000:01:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x000e "
          "address=0xfee00000 flags=0x0008]",
          "4,1,1,-;dmar_fault: 412 callbacks suppressed"})
        for (size_t at = 0; at < whole.size(); ++at)
            for (const char damage : {'\0', ' ', '0', 'f', ':', ']', ';', '\xff'}) {
                // Each in memory of its own, so that a sanitizer sees who reads past its end.
                std::vector<char> cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(at));
                std::vector<char> damaged(whole.begin(), whole.end());
                damaged[at] = damage;
                for (const auto& bytes : {cut, damaged})
                    if (const auto message = kernel_message({bytes.data(), bytes.size()})) {
                        parse_left_out_faults(*message);
                        if (const auto fault = parse_iommu_fault(*message)) {
                            EXPECT_LE(to_string(*fault).size(), 180);
                        }
                    }
            }
}

TEST(IommuFaults, AReasonIsKeptShort) {
    const std::string endless(100'000, 'x');
    const auto fault = parse_iommu_fault(
        "DMAR: [DMA Write NO_PASID] Request device [01:00.0] fault addr 0x1 [fault reason 0x05] " + endless);
    ASSERT_TRUE(fault);
    EXPECT_LE(to_string(*fault).size(), 180);
}

TEST(IommuFaults, HowManyWereLeftOut) {
    EXPECT_EQ(parse_left_out_faults("dmar_fault: 412 callbacks suppressed"), 412);
    EXPECT_EQ(parse_left_out_faults("amd_iommu_report_page_fault: 7 callbacks suppressed"), 7);
    for (const char* message :
         {"dmar_fault: many callbacks suppressed", "dmar_fault: -1 callbacks suppressed",
          "dmar_fault: 99999999999999999999 callbacks suppressed", "dmar_fault: 3",
          "net_ratelimit: 3 callbacks suppressed"})
        EXPECT_EQ(parse_left_out_faults(message), std::nullopt) << message;
}

TEST(IommuFaults, OnlyTheKernelSpeaksForItself) {
    EXPECT_EQ(kernel_message("3,812,1234567,-;DMAR: x\n SUBSYSTEM=pci\n DEVICE=+pci:0000:01:00.0\n"),
              "DMAR: x");
    EXPECT_EQ(kernel_message("4,812,1234567,-,caller=T1;a;b"), "a;b");
    EXPECT_EQ(kernel_message("6,1,1,c;"), "");
    EXPECT_EQ(kernel_message("12,812,1234567,-;DMAR: by a program"), std::nullopt);
    for (const char* record :
         {"", ";", "x,1,2,-;text", "3;text", "3,812", "-3,1,2,-;text", "99999999999999999999,1,2,-;text"})
        EXPECT_EQ(kernel_message(record), std::nullopt) << record;
}

// A log of packets: a read gets one, as from /dev/kmsg.
class IommuFaultWatchTest : public ::testing::Test {
  protected:
    IommuFaultWatchTest() {
        int fds[2] = {-1, -1};
        EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
        kernel = UniqueFd(fds[0]);
        KernelLog log;
        log.fd = UniqueFd(fds[1]);
        log.read = [this, fd = fds[1]](std::span<char> into) -> ssize_t {
            ++reads;
            if (!errors.empty()) {
                errno = errors.back();
                errors.pop_back();
                return -1;
            }
            return ::read(fd, into.data(), into.size());
        };
        watch = *IommuFaultWatch::create(*loop, std::move(log),
                                         [this](const IommuFault& fault, uint64_t left_out) {
                                             seen.push_back(fmt::format("{:#x} {}", fault.at, left_out));
                                         });
    }
    void says(std::string_view message, std::string_view level = "3") {
        const std::string record = fmt::format("{},1,2,-;{}\n", level, message);
        ASSERT_EQ(::write(kernel.get(), record.data(), record.size()), static_cast<ssize_t>(record.size()));
    }
    void faults(int at, std::string_view level = "3") {
        says(fmt::format("DMAR: [DMA Write NO_PASID] Request device [01:00.0] fault addr {:#x} [fault reason "
                         "0x05] PTE Write access is not set",
                         at),
             level);
    }

    std::unique_ptr<io::EventLoop> loop = *io::EventLoop::create();
    UniqueFd kernel;
    std::vector<int> errors; // the next last
    int reads = 0;
    std::vector<std::string> seen;
    std::unique_ptr<IommuFaultWatch> watch;
};

TEST_F(IommuFaultWatchTest, TellsOfFaultsAndOfHowManyWereLeftOut) {
    says("nvme nvme0: pci function 0000:01:00.0");
    faults(1);
    says("dmar_fault: 40 callbacks suppressed");
    says("dmar_fault: 2 callbacks suppressed");
    faults(2, "12"); // a program
    faults(3);
    faults(4);
    loop->run_once(0ms);
    EXPECT_THAT(seen, ElementsAre("0x1 0", "0x3 42", "0x4 0"));
}

TEST_F(IommuFaultWatchTest, GoesOnWhereRecordsWereOverwrittenOrTooLong) {
    errors = {EINVAL, EINTR, EPIPE};
    faults(1);
    loop->run_once(0ms);
    EXPECT_THAT(seen, ElementsAre("0x1 0"));
}

TEST_F(IommuFaultWatchTest, AFloodLeavesRoomForOthers) {
    for (int i = 0; i < 100; ++i)
        says("x");
    faults(1);
    loop->run_once(0ms);
    EXPECT_EQ(reads, 64);
    loop->run_once(0ms);
    EXPECT_THAT(seen, ElementsAre("0x1 0"));
}

TEST_F(IommuFaultWatchTest, ALogThatEndsIsLeftAlone) {
    kernel.reset();
    loop->run_once(0ms);
    EXPECT_EQ(reads, 1);
    loop->run_once(0ms);
    EXPECT_EQ(reads, 1);
}

} // namespace
} // namespace lanepool::agent
