// SPDX-License-Identifier: Apache-2.0
#include "inventory/reader.h"

#include "base/temporary_folder.h"
#include "inventory/json.h"
#include "inventory/links.h"
#include "inventory/names.h"
#include "inventory/paths.h"
#include "inventory/testing/machines.h"

#include <fstream>
#include <gtest/gtest.h>
#include <sys/stat.h>

namespace lanepool::inventory {
namespace {

using namespace testing;

Machine read(MachineBuilder builder) { return read_machine(builder.tree(), "ids"); }
const Function& at(const Machine& machine, const char* address) {
    const auto* function = machine.find(pci::parse_address(address).value());
    if (!function) throw std::runtime_error(std::string("no ") + address);
    return *function;
}

TEST(Reader, ReadsWhatADriveIs) {
    const auto machine = read(plain_server());
    const auto& drive = at(machine, "0000:01:00.0");
    EXPECT_EQ(drive.vendor_id, 0x144d);
    EXPECT_EQ(drive.device_id, 0xa80a);
    EXPECT_EQ(drive.class_code, 0x010802u);
    EXPECT_EQ(drive.model, "Example NVMe 3.84TB");
    EXPECT_EQ(drive.serial, "S1234567");
    EXPECT_EQ(drive.firmware, "EX01");
    EXPECT_EQ(drive.driver, (Driver{"nvme", "nvme", "1.0", "0123456789ABCDEF0123456"}));
    EXPECT_EQ(drive.driver_override, "");
    EXPECT_EQ(drive.device_nodes, (std::vector<std::string>{"/dev/nvme0", "/dev/nvme0n1"}));
    EXPECT_EQ(kind_of(drive), "nvme");
    EXPECT_EQ(drive.notes, std::vector<std::string>());
}

TEST(Reader, ReadsWhatADriveCanDo) {
    const auto machine = read(plain_server());
    const auto& drive = at(machine, "0000:01:00.0");
    EXPECT_EQ(drive.type, FunctionType::endpoint);
    EXPECT_EQ(drive.bars[0].size_bytes, 16384u);
    EXPECT_TRUE(drive.bars[0].is_64_bit && !drive.bars[0].io && drive.bars[0].address != 0);
    EXPECT_EQ(drive.bars[1], Bar{});
    EXPECT_EQ(drive.link, gen4_x4);
    EXPECT_EQ(drive.best_link, gen4_x4);
    EXPECT_EQ(drive.reset_methods, (std::vector<std::string>{"flr", "bus"}));
    EXPECT_EQ(drive.has_flr, true);
    EXPECT_EQ(drive.msix_vectors, 33u);
    EXPECT_EQ(drive.msi_vectors, 1u);
    EXPECT_TRUE(drive.intx);
    EXPECT_EQ(drive.dma_bits, 64u);
    EXPECT_EQ(drive.power_state, "D0");
    EXPECT_EQ(drive.aer, (AerCounters{3, 0, 0}));
    EXPECT_TRUE(drive.config_complete);
}

TEST(Reader, ReadsWhereADriveIs) {
    const auto machine = read(plain_server());
    const auto& drive = at(machine, "0000:01:00.0");
    EXPECT_EQ(drive.upstream, pci::parse_address("0000:00:01.0").value());
    EXPECT_EQ(drive.numa_node, 0);
    EXPECT_EQ(drive.iommu_group, 11u);
    EXPECT_EQ(drive.slot, 11u);
    const auto& port = at(machine, "0000:00:01.0");
    EXPECT_EQ(port.type, FunctionType::root_port);
    EXPECT_TRUE(port.bridge && !port.upstream && !port.slot);
    EXPECT_EQ(port.buses, (BridgeBuses{1, 1}));
    EXPECT_EQ(port.acs, full_acs);
}

TEST(Reader, ReadsTheHost) {
    const auto host = read(plain_server()).host;
    EXPECT_EQ(host.name, "server1");
    EXPECT_EQ(host.os, "Debian GNU/Linux 12 (bookworm)");
    EXPECT_EQ(host.kernel_release, "6.1.0-50-amd64");
    EXPECT_EQ(host.cpu_vendor, "GenuineIntel");
    EXPECT_EQ(host.cpu_family, 6u);
    EXPECT_EQ(host.processors, 8u);
    EXPECT_EQ(host.numa_nodes, 1u);
    EXPECT_EQ(host.board, "Example X1");
    EXPECT_EQ(host.iommu, IommuMode::translated_lazy);
    EXPECT_EQ(host.iommu_units, std::vector<std::string>{"dmar0"});
    EXPECT_EQ(host.interrupt_remapping, true);
    EXPECT_EQ(host.command_line, "intel_iommu=on");
    EXPECT_EQ(host.vfio, (std::vector<std::string>{"vfio_pci", "type1"}));
    EXPECT_EQ(host.lockdown, "none");
}

TEST(Reader, ReadsGroups) {
    const auto machine = read(shared_groups());
    const auto group = std::ranges::find(machine.groups, 5u, &IommuGroup::number);
    ASSERT_NE(group, machine.groups.end());
    EXPECT_EQ(group->members.size(), 4u);
    EXPECT_EQ(group->type, "DMA-FQ");
    ASSERT_EQ(group->reserved.size(), 1u);
    EXPECT_EQ(group->reserved[0], (IommuGroup::Reserved{0xfee00000, 0xfeefffff, "msi"}));
}

TEST(Reader, KnowsModesOfTheIommu) {
    EXPECT_EQ(read(no_iommu_server()).host.iommu, IommuMode::none);
    EXPECT_EQ(read(amd_server()).host.iommu, IommuMode::translated_strict);
    auto passthrough = MachineBuilder().iommu("identity").add(with_group(nvme_drive("0000:00:01.0", ""), 1));
    EXPECT_EQ(read(passthrough).host.iommu, IommuMode::passthrough);
    auto off = no_iommu_server();
    off.tree().add_file("/sys/firmware/acpi/tables/DMAR", "");
    EXPECT_EQ(read(off).host.iommu, IommuMode::off);
}

TEST(Reader, AGroupOfVfioWithoutAnIommuIsNone) {
    auto builder = no_iommu_server();
    builder.tree().add_file("/sys/kernel/iommu_groups/0/name", "vfio-noiommu\n");
    builder.tree().add_link("/sys/kernel/iommu_groups/0/devices/0000:01:00.0", "x");
    builder.tree().add_link(builder.folder("0000:01:00.0") + "/iommu_group",
                            "../../../../kernel/iommu_groups/0");
    const auto machine = read(builder);
    EXPECT_EQ(machine.host.iommu, IommuMode::none);
    EXPECT_FALSE(at(machine, "0000:01:00.0").iommu_group);
}

TEST(Reader, ReadsVirtualFunctions) {
    const auto machine = read(virtual_functions());
    const auto& parent = at(machine, "0000:02:00.0");
    ASSERT_TRUE(parent.sriov);
    EXPECT_EQ(parent.sriov->total, 8u);
    EXPECT_EQ(parent.sriov->enabled, 2u);
    ASSERT_EQ(parent.sriov->functions.size(), 2u);
    const auto& child = at(machine, "0000:02:00.1");
    EXPECT_EQ(child.parent, parent.address);
    EXPECT_FALSE(child.sriov || child.link || child.best_link);
    EXPECT_EQ(child.vendor_id, 0x8086);
    EXPECT_EQ(child.upstream, parent.upstream);
    EXPECT_FALSE(parent.multi_function || child.multi_function);
}

TEST(Reader, SeesALinkThatRunsBelowWhatItCould) {
    const auto machine = read(degraded_link());
    EXPECT_TRUE(is_degraded(machine, at(machine, "0000:01:00.0")));
    EXPECT_TRUE(is_degraded(machine, at(machine, "0000:00:01.0")));
    EXPECT_FALSE(is_degraded(machine, at(machine, "0000:04:00.0")));
    EXPECT_EQ(link_text(at(machine, "0000:01:00.0").link), "2.5 GT/s x4");
}

TEST(Reader, ASmallSlotIsNoDegradedLink) {
    MachineBuilder builder;
    builder.add(root_port("0000:00:01.0", 1));
    auto card = graphics_card("0000:01:00.0", "0000:00:01.0");
    card.link = gen4_x4;
    const auto machine = read(builder.add(card));
    EXPECT_EQ(possible_link(machine, at(machine, "0000:01:00.0")), gen4_x4);
    EXPECT_FALSE(is_degraded(machine, at(machine, "0000:01:00.0")));
}

TEST(Reader, FollowsBrokenChainsToTheBreakAndSaysSo) {
    const auto machine = read(broken_chains());
    for (const char* address : {"0000:01:00.0", "0000:02:00.0", "0000:03:00.0"}) {
        const auto& drive = at(machine, address);
        EXPECT_TRUE(drive.config_broken) << address;
        EXPECT_EQ(drive.type, FunctionType::endpoint) << address;
        EXPECT_EQ(drive.has_flr, true) << address;
        EXPECT_EQ(drive.notes.size(), 1u) << address;
    }
    EXPECT_EQ(
        at(machine, "0000:04:00.0").notes,
        std::vector<std::string>{"its configuration space reads all-ones: it is gone, or without power"});
    EXPECT_FALSE(at(machine, "0000:04:00.0").answers);
    EXPECT_FALSE(at(machine, "0000:05:00.0").config_complete);
    EXPECT_FALSE(at(machine, "0000:06:00.0").config_complete);
    EXPECT_FALSE(at(machine, "0000:07:00.0").acs);
    EXPECT_EQ(at(machine, "0000:08:00.0").class_code, 0u);
    EXPECT_FALSE(at(machine, "0000:08:00.0").numa_node || at(machine, "0000:08:00.0").dma_bits);
    EXPECT_EQ(machine.functions.size(), 18u);
    EXPECT_EQ(at(machine, "10000:e1:00.0").address.domain,
              0x10000u);                 // behind a host bridge that only Linux knows
    EXPECT_GE(machine.notes.size(), 3u); // one each for those left out
}

TEST(Reader, WithoutRootWhatIsNotSeenIsAbsent) {
    const auto machine = read(without_root());
    const auto& drive = at(machine, "0000:01:00.0");
    EXPECT_FALSE(drive.config_complete);
    EXPECT_FALSE(drive.msix_vectors || drive.has_flr || drive.acs);
    EXPECT_EQ(drive.link, gen4_x4); // sysfs shows it to everybody
    EXPECT_EQ(drive.reset_methods.size(), 2u);
    EXPECT_TRUE(at(machine, "0000:00:01.0").bridge);
    EXPECT_NE(machine.notes.back().find("as root"), std::string::npos);
}

TEST(Reader, FindsBridgesByBusNumbersWherePathsDoNotSay) {
    MachineBuilder builder;
    builder.add(root_port("0000:00:01.0", 1));
    const auto machine = read(builder.add(nvme_drive("0000:01:00.0", "")));
    EXPECT_EQ(at(machine, "0000:01:00.0").upstream, pci::parse_address("0000:00:01.0").value());
}

TEST(Reader, BridgesThatFormACircleAreCut) {
    Tree tree;
    for (const auto& [name, secondary, subordinate] :
         {std::tuple{"0000:01:00.0", 2, 2}, {"0000:02:00.0", 1, 1}}) {
        const std::string folder = std::string("/sys/bus/pci/devices/") + name;
        ConfigBuilder config(0x8086, 1, 0x060400);
        config.bridge(0, static_cast<uint8_t>(secondary), static_cast<uint8_t>(subordinate));
        tree.add_file(folder + "/config", config.text(64));
    }
    const auto machine = read_machine(tree, "");
    ASSERT_EQ(machine.functions.size(), 2u);
    EXPECT_LE(bridges_above(machine, machine.functions[1]).size(), 1u);
}

TEST(Reader, FindsAdaptersAndTheirWindows) {
    const auto machine = read(adapters());
    ASSERT_EQ(machine.adapters.size(), 3u); // the management endpoint is none
    EXPECT_EQ(machine.adapters[1].window_bar_bytes, std::vector<uint64_t>{uint64_t{1} << 26});
    EXPECT_FALSE(machine.adapters[1].partition);
}

TEST(Reader, AttachesNamespacesWithMultipath) {
    auto builder = plain_server();
    auto& tree = builder.tree();
    tree.remove("/sys/class/block/nvme0n1");
    tree.add_link("/sys/class/block/nvme0n1", "../../devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1");
    tree.add_link("/sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0",
                  "../../../pci0000:00/0000:00:01.0/0000:01:00.0/nvme/nvme0");
    EXPECT_EQ(at(read(builder), "0000:01:00.0").device_nodes,
              (std::vector<std::string>{"/dev/nvme0", "/dev/nvme0n1"}));
}

TEST(Reader, TakesTheSerialNumberOfTheCardWhereNoDriverSaysOne) {
    const auto machine = read(plain_server());
    EXPECT_EQ(at(machine, "0000:02:00.0").serial, "b8-59-9f-ff-ff-12-34-56");
}

TEST(Reader, NamesComeFromPciIds) {
    auto builder = plain_server();
    const auto machine =
        read_machine(builder.tree(), "# comment\n144d  Example Maker\n\ta80a  Example Drive\n"
                                     "\t\t144d 0001  a card\nbroken\n\tzzzz  nothing\n"
                                     "C 01  Mass storage\n\t08  Non-Volatile memory\n\t\t02  NVMe\n");
    const auto& drive = at(machine, "0000:01:00.0");
    EXPECT_EQ(drive.vendor_name, "Example Maker");
    EXPECT_EQ(drive.device_name, "Example Drive");
    EXPECT_EQ(drive.class_name, "Non-Volatile memory");
    EXPECT_EQ(title_of(at(machine, "0000:02:00.0")), "8086:10c9");
}

class EveryMachine : public ::testing::TestWithParam<NamedMachine> {};
INSTANTIATE_TEST_SUITE_P(Machines, EveryMachine, ::testing::ValuesIn(machines),
                         [](const auto& machine) { return std::string(machine.param.name); });

// What is read from memory, from the same tree on a disk, and from what a reading has saved, is the same.
TEST_P(EveryMachine, IsReadTheSameFromADiskAndFromWhatWasSaved) {
    const TemporaryFolder folder;
    auto builder = GetParam().make();
    ASSERT_TRUE(builder.tree().write(folder / "first"));
    DiskFiles disk(Roots::saved_in(folder / "first"));
    Tree saved;
    RecordingFiles recording(disk, saved, size_t{64} << 20);
    const auto expected = to_json(read_machine(builder.tree(), "")).dump(1);
    EXPECT_EQ(to_json(read_machine(recording, "")).dump(1), expected);
    ASSERT_TRUE(saved.write(folder / "second"));
    Roots roots = Roots::saved_in(folder / "second");
    roots.ids = folder / "none";
    EXPECT_EQ(to_json(read_machine(roots)).dump(1), expected);
}

TEST_P(EveryMachine, HasEveryFunctionBelowItsBridge) {
    const auto machine = read(GetParam().make());
    for (const auto& function : machine.functions)
        EXPECT_TRUE(!function.upstream || machine.find(*function.upstream)->bridge);
}

TEST(DiskFiles, DoesNotWaitForAPipeNorReadDevices) {
    const TemporaryFolder folder;
    std::filesystem::create_directories(folder / "sys");
    ASSERT_EQ(::mkfifo((folder / "sys/pipe").c_str(), 0600), 0);
    DiskFiles files(Roots::saved_in(folder.path()));
    EXPECT_FALSE(files.read("/sys/pipe", 10));
    EXPECT_TRUE(files.exists("/sys/pipe"));
}

TEST(DiskFiles, LinksDoNotLeadOutOfATree) {
    const TemporaryFolder folder;
    std::filesystem::create_directories(folder / "sys");
    std::ofstream(folder / "secret") << "secret";
    std::filesystem::create_symlink("../secret", folder / "sys/out");
    std::filesystem::create_symlink(folder / "secret", folder / "sys/far");
    std::filesystem::create_symlink("around", folder / "sys/around");
    DiskFiles files(Roots::saved_in(folder.path()));
    EXPECT_FALSE(files.read("/sys/out", 10) || files.read("/sys/far", 10) || files.read("/sys/around", 10));
    EXPECT_FALSE(follow(files, "/sys/out"));
}

TEST(Tree, IsNotWrittenOverSomethingElse) {
    const TemporaryFolder folder;
    std::ofstream(folder / "there") << "x";
    Tree tree;
    tree.add_file("/sys/x", "1");
    EXPECT_EQ(tree.write(folder.path()).error().code(), Errc::already_exists);
}

TEST(Recording, StopsAtItsLimit) {
    Tree from, to;
    for (int i = 0; i < 10; ++i)
        from.add_file(fmt::format("/sys/{}", i), std::string(100, 'x'));
    RecordingFiles files(from, to, 500);
    for (int i = 0; i < 10; ++i)
        EXPECT_TRUE(files.read(fmt::format("/sys/{}", i), 200));
    EXPECT_TRUE(files.full());
    EXPECT_EQ(to.bytes(), 500u);
}

} // namespace
} // namespace lanepool::inventory
