// SPDX-License-Identifier: Apache-2.0
#include "local_devices/holders.h"

#include "local_devices/simulated_kernel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lanepool::local_devices {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr pci::Address drive{0, 1, 0, 0};
constexpr pci::Address sibling{0, 1, 0, 1};

class Holders : public testing::Test {
  protected:
    Holders() {
        auto& function = kernel_.functions[drive];
        function.native = function.driver = "nvme";
        function.group = "4";
        kernel_.files["/proc/self/mountinfo"] = "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n";
        kernel_.links["/proc/self/ns/mnt"] = "mnt:[1]";
    }

    // Below the function's folder, or in an absolute folder of sysfs.
    void add_node(const std::string& folder, const std::string& name, unsigned major, unsigned minor,
                  bool block = true) {
        const std::string numbers = fmt::format("{}:{}\n", major, minor);
        const std::string uevent = fmt::format("MAJOR={}\nDEVNAME={}\nDEVTYPE=disk\n", major, name);
        const bool absolute = folder.starts_with('/');
        const std::string real =
            absolute ? folder : "/sys/devices/" + kernel_.folder_of(drive) + '/' + folder;
        kernel_.files[real + "/dev"] = numbers;
        kernel_.files[real + "/uevent"] = uevent;
        kernel_.links[real + "/subsystem"] = block ? "../../class/block" : "../../class/nvme";
        kernel_.links["/sys/class/block/" + name] = "../.." + real.substr(std::string("/sys").size());
        kernel_.numbers["/dev/" + name] = {block, major, minor};
    }
    void add_disk() {
        add_node("nvme/nvme0", "nvme0", 240, 0, false);
        add_node("nvme/nvme0/nvme0n1", "nvme0n1", 259, 0);
        add_node("nvme/nvme0/nvme0n1/nvme0n1p1", "nvme0n1p1", 259, 1);
    }
    void add_mapped(const std::string& on, const std::string& uuid) {
        const std::string folder = "/sys/devices/virtual/block/dm-0";
        add_node(folder, "dm-0", 253, 0);
        kernel_.files[folder + "/dm/name"] = "vg-data\n";
        kernel_.files[folder + "/dm/uuid"] = uuid + "\n";
        kernel_.links["/sys/devices/" + kernel_.folder_of(drive) + '/' + on + "/holders/dm-0"] = folder;
    }
    void add_interface(const std::string& name, const std::string& flags) {
        kernel_.files["/sys/devices/" + kernel_.folder_of(drive) + "/net/" + name + "/address"] = "52\n";
        kernel_.files["/sys/class/net/" + name + "/flags"] = flags + "\n";
    }
    void mount(const std::string& line) { kernel_.files["/proc/self/mountinfo"] += line + "\n"; }
    void open_file(int pid, const std::string& comm, const std::string& path) {
        kernel_.files[fmt::format("/proc/{}/comm", pid)] = comm + "\n";
        kernel_.links[fmt::format("/proc/{}/fd/{}", pid, kernel_.links.size())] = path;
    }
    std::vector<std::string> holders() { return holders_of(system_, std::vector{drive}); }

    SimulatedKernel kernel_;
    SimulatedSystem system_{kernel_};
};

TEST_F(Holders, NobodyUsesAnIdleDrive) {
    add_disk();
    EXPECT_THAT(holders(), IsEmpty());
}

TEST_F(Holders, MountPointsWithBlanks) {
    add_disk();
    mount("30 21 259:1 / /srv/my\\040data rw,relatime shared:7 master:2 - xfs /dev/nvme0n1p1 rw");
    EXPECT_THAT(holders(), ElementsAre("/dev/nvme0n1p1 is mounted at /srv/my data (xfs)"));
}

TEST_F(Holders, MountsAreSeenByTheirSourceToo) {
    add_disk();
    mount("30 21 0:44 /sub /srv rw - btrfs /dev/nvme0n1p1 rw");
    EXPECT_THAT(holders(), ElementsAre("/dev/nvme0n1p1 is mounted at /srv (btrfs)"));
}

TEST_F(Holders, ASecondMemberOfABtrfsIsInUse) {
    add_disk();
    for (const char* member : {"sdb", "nvme0n1p1"})
        kernel_.files[fmt::format("/sys/fs/btrfs/1234/devices/{}/size", member)] = "1\n";
    mount("30 21 0:44 / /srv rw - btrfs /dev/sdb rw");
    EXPECT_THAT(holders(), ElementsAre("/dev/sdb is mounted at /srv (btrfs)"));
}

TEST_F(Holders, OddMountLinesAreNobody) {
    add_disk();
    for (const char* line :
         {"", "x", "30 21", "30 21 259:1", "30 21 259:1 / /srv rw", "30 21 259 / /srv rw - a b",
          "30 21 259:1 / /srv rw -", "30 21 a:b / /srv rw - a b"})
        mount(line);
    EXPECT_THAT(holders(), IsEmpty());
}

TEST_F(Holders, EachMountNamespaceOnce) {
    add_disk();
    for (int pid : {7, 8}) {
        kernel_.links[fmt::format("/proc/{}/ns/mnt", pid)] = "mnt:[2]";
        kernel_.files[fmt::format("/proc/{}/mountinfo", pid)] = "9 1 259:0 / /x rw - ext4 /dev/nvme0n1 rw\n";
        kernel_.files[fmt::format("/proc/{}/comm", pid)] = "containerd\n";
    }
    EXPECT_THAT(holders(), ElementsAre("/dev/nvme0n1 is mounted at /x (ext4) for process 7 (containerd)"));
}

TEST_F(Holders, Swap) {
    add_disk();
    kernel_.files["/proc/swaps"] =
        "Filename\tType\tSize\tUsed\tPriority\n/dev/nvme0n1p1 partition\t9\t0\t-2\n";
    EXPECT_THAT(holders(), ElementsAre("/dev/nvme0n1p1 is swap space"));
}

TEST_F(Holders, AVolumeAndWhatIsMountedFromIt) {
    add_disk();
    add_mapped("nvme/nvme0/nvme0n1/nvme0n1p1", "LVM-abc");
    mount("30 21 253:0 / /home rw - ext4 /dev/mapper/vg-data rw");
    EXPECT_THAT(holders(), ElementsAre("/dev/dm-0 (vg-data) on /dev/nvme0n1p1 is mounted at /home (ext4)",
                                       "/dev/nvme0n1p1 is part of /dev/dm-0 (LVM volume vg-data)"));
}

TEST_F(Holders, AnEncryptedVolume) {
    add_disk();
    add_mapped("nvme/nvme0/nvme0n1", "CRYPT-LUKS2-abc");
    EXPECT_THAT(holders(), ElementsAre("/dev/nvme0n1 is part of /dev/dm-0 (encrypted volume vg-data)"));
}

TEST_F(Holders, HoldersThatFormACircleEnd) {
    add_disk();
    add_mapped("nvme/nvme0/nvme0n1", "LVM-abc");
    kernel_.links["/sys/devices/virtual/block/dm-0/holders/dm-0"] = "../dm-0";
    EXPECT_THAT(holders(), Contains("/dev/nvme0n1 is part of /dev/dm-0 (LVM volume vg-data)"));
}

TEST_F(Holders, ALoopDeviceOnAPartition) {
    add_disk();
    add_node("/sys/devices/virtual/block/loop0", "loop0", 7, 0);
    kernel_.files["/sys/class/block/loop0/loop/backing_file"] = "/dev/nvme0n1p1\n";
    EXPECT_THAT(holders(), ElementsAre("/dev/nvme0n1p1 is part of /dev/loop0 (device)"));
}

TEST_F(Holders, WhatTheKernelHasForItselfIsNoticed) {
    add_disk();
    kernel_.claimed = {"/dev/nvme0n1", "/dev/nvme0n1p1"};
    EXPECT_THAT(holders(), Contains(HasSubstr("the kernel has /dev/nvme0n1p1 in use")));
}

TEST_F(Holders, WhatIsExplainedIsNotSaidAgain) {
    add_disk();
    kernel_.claimed = {"/dev/nvme0n1", "/dev/nvme0n1p1"};
    mount("30 21 259:1 / /srv rw - ext4 /dev/nvme0n1p1 rw");
    EXPECT_THAT(holders(), ElementsAre("/dev/nvme0n1p1 is mounted at /srv (ext4)"));
}

// With several controllers in a subsystem the kernel shows only a hidden path below each of them.
TEST_F(Holders, ANamespaceWithSeveralPaths) {
    add_node("nvme/nvme3", "nvme3", 240, 3, false);
    kernel_.files["/sys/devices/" + kernel_.folder_of(drive) + "/nvme/nvme3/nvme0c3n1/size"] = "1\n";
    add_node("/sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1", "nvme0n1", 259, 5);
    mount("30 21 259:5 / /srv rw - ext4 /dev/nvme0n1 rw");
    EXPECT_THAT(holders(), ElementsAre("/dev/nvme0n1 is mounted at /srv (ext4)"));
}

TEST_F(Holders, ProcessesByTheNumberOfWhatTheyHaveOpen) {
    add_disk();
    open_file(4711, "postgres", "/dev/nvme0n1");
    open_file(4711, "postgres", "/dev/nvme0n1");
    open_file(12, "podman", "/rootfs/dev/xvda");
    kernel_.numbers["/rootfs/dev/xvda"] = {true, 259, 1};
    open_file(13, "cat", "/dev/null");
    open_file(14, "same", "/dev/tty7");
    kernel_.numbers["/dev/tty7"] = {false, 259, 1}; // a character device with the same number
    EXPECT_THAT(holders(), ElementsAre("process 12 (podman) has /dev/nvme0n1p1 open",
                                       "process 4711 (postgres) has /dev/nvme0n1 open"));
}

TEST_F(Holders, RegistersThatAreOpen) {
    const std::string path = "/sys/devices/" + kernel_.folder_of(drive) + "/resource0";
    open_file(5, "dpdk", path);
    EXPECT_THAT(holders(), ElementsAre(fmt::format("process 5 (dpdk) has {} open", path)));
}

TEST_F(Holders, Interfaces) {
    add_interface("eth0", "0x1002");
    add_interface("eth1", "0x1003");
    add_interface("eth2", "0x1002");
    kernel_.links["/sys/class/net/eth2/master"] = "../bond0";
    kernel_.links["/sys/class/net/eth2/upper_bond0"] = "../bond0";
    kernel_.links["/sys/class/net/eth0/upper_eth0.7"] = "../eth0.7";
    EXPECT_THAT(holders(), ElementsAre("eth0.7 is built on eth0", "eth1 is up", "eth2 is part of bond0"));
}

TEST_F(Holders, VirtualFunctions) {
    kernel_.links["/sys/devices/" + kernel_.folder_of(drive) + "/virtfn0"] = "../0000:01:00.1";
    EXPECT_THAT(holders(), ElementsAre("0000:01:00.0 has 1 virtual functions, 0000:01:00.1 being the first"));
}

TEST_F(Holders, NvidiaNodes) {
    kernel_.files["/proc/driver/nvidia/gpus/0000:01:00.0/information"] = "Model: \t X\nDevice Minor: \t 2\n";
    kernel_.numbers["/dev/nvidia2"] = {false, 195, 2};
    open_file(9, "python", "/dev/nvidia2");
    EXPECT_THAT(holders(), ElementsAre("process 9 (python) has /dev/nvidia2 open"));
}

TEST_F(Holders, WhoUsesItThroughVfio) {
    kernel_.functions[drive].driver = "vfio-pci";
    open_file(9, "qemu", "/dev/vfio/4");
    open_file(10, "other", "/dev/vfio/44");
    EXPECT_THAT(holders(), ElementsAre("process 9 (qemu) has /dev/vfio/4 open"));
    EXPECT_THAT(vfio_users_of(system_, std::vector{drive}), SizeIs(1));
}

TEST_F(Holders, TheListIsLimited) {
    add_disk();
    for (int i = 0; i < 100; ++i)
        mount(fmt::format("30 21 259:1 / /srv/{} rw - ext4 /dev/nvme0n1p1 rw", i));
    const auto list = holders();
    ASSERT_THAT(list, SizeIs(most_holders));
    EXPECT_EQ(list.back(), "and 69 more");
}

TEST_F(Holders, OfSeveralFunctions) {
    add_disk();
    kernel_.functions[sibling].group = "4";
    kernel_.files["/sys/devices/" + kernel_.folder_of(sibling) + "/net/eth5/address"] = "52\n";
    kernel_.files["/sys/class/net/eth5/flags"] = "0x1\n";
    mount("30 21 259:1 / /srv rw - ext4 /dev/nvme0n1p1 rw");
    EXPECT_THAT(holders_of(system_, std::vector{drive, sibling}),
                ElementsAre("/dev/nvme0n1p1 is mounted at /srv (ext4)", "eth5 is up"));
}

} // namespace
} // namespace lanepool::local_devices
