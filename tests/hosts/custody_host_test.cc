// SPDX-License-Identifier: Apache-2.0
//
// Taking functions from the drivers of a real kernel, and giving them back; SR-IOV of devices that are not
// ours. Runs inside of a whole host; custody_test.py starts it there and says in the environment where the
// devices are.
#include "base/eventually.h"
#include "local_devices/child_process.h"
#include "local_devices/custody.h"
#include "local_devices/nic_functions.h"
#include "local_devices/pci_tree.h"
#include "local_devices/reset.h"
#include "local_devices/sriov.h"
#include "nvme/driver.h"
#include "nvme/io_commands.h"
#include "pci/address.h"
#include "vfio/open.h"

#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace lanepool::local_devices {
namespace {

using namespace std::chrono_literals;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

namespace fs = std::filesystem;

pci::Address device(const char* name) {
    const char* text = std::getenv(name);
    return pci::parse_address(text ? text : "").value();
}

std::string message(const Result<>& result) { return result ? "" : result.error().message(); }

void shell(const std::string& command) {
    const int status = std::system((command + " >/tmp/output 2>&1").c_str());
    std::ifstream output("/tmp/output");
    if (status != 0)
        throw std::runtime_error(command + ": " + std::string(std::istreambuf_iterator<char>(output), {}));
}

io::TimePoint in(io::Duration duration) { return io::system_clock().now() + duration; }

class Hosts : public testing::Test {
  protected:
    Hosts() { reopen(); }

    void reopen() {
        custody_.reset();
        auto opened = Custody::open(Paths{}, "/tmp/custody.json");
        if (!opened) throw std::runtime_error(opened.error().message());
        custody_ = std::move(*opened);
    }
    std::string driver(const pci::Address& function) { return driver_of(*system_, function); }
    // The name of the one thing in a folder of a function: of its interface, its controller.
    std::string only(const pci::Address& function, const char* folder) {
        std::string name;
        EXPECT_TRUE(eventually([&] {
            const auto entries = system_->list(attribute(function, folder));
            if (entries && !entries->empty()) name = entries->front().name;
            return !name.empty();
        }));
        return name;
    }
    // "nvme0n1", once the kernel shows it.
    std::string disk(const pci::Address& drive) {
        const std::string name = only(drive, "nvme") + "n1";
        EXPECT_TRUE(eventually([&] { return fs::exists("/dev/" + name); }));
        return name;
    }

    const std::unique_ptr<System> system_ = linux_system(Paths{});
    std::unique_ptr<Custody> custody_;
};

class HeldDrive : public Hosts {
  protected:
    HeldDrive() : name_(disk(drive_)) {}
    ~HeldDrive() override { EXPECT_EQ(driver(drive_), "nvme"); }

    void expect_refusal(const std::string& holder) {
        const auto taken = custody_->take(drive_);
        ASSERT_FALSE(taken);
        EXPECT_EQ(taken.error().code(), Errc::busy);
        EXPECT_THAT(taken.error().message(), HasSubstr(holder));
        EXPECT_EQ(driver(drive_), "nvme");
    }

    const pci::Address drive_ = device("NVME");
    const std::string name_;
    const std::string node_ = "/dev/" + name_;
};

// A table in the first sector with one partition, from 1 MiB on.
void partition(const std::string& node) {
    std::array<unsigned char, 512> table = {};
    unsigned char* const entry = table.data() + 446;
    entry[4] = 0x83;
    entry[9] = 0x08;  // at sector 2048
    entry[13] = 0x80; // of 32768 sectors
    table[510] = 0x55;
    table[511] = 0xaa;
    std::ofstream(node, std::ios::binary).write(reinterpret_cast<const char*>(table.data()), table.size());
    shell("blockdev --rereadpt " + node);
    const std::string first = node + "p1";
    ASSERT_TRUE(eventually([&] { return fs::exists(first); }));
}

TEST_F(HeldDrive, AMountedPartitionIsNamed) {
    partition(node_);
    const std::string first = node_ + "p1";
    shell("mke2fs -qt ext4 " + first + " && mkdir -p /mnt/data && mount -t ext4 " + first + " /mnt/data");
    expect_refusal(first + " is mounted at /mnt/data (ext4)");
    shell("mkdir -p /mnt/other && mount --bind /mnt/data /mnt/other");
    expect_refusal(first + " is mounted at /mnt/other (ext4)");
    shell("umount /mnt/other && umount /mnt/data");
    EXPECT_THAT(custody_->holders(drive_).value(), IsEmpty());
}

TEST_F(HeldDrive, AMountInAnotherNamespaceIsNamed) {
    shell("mke2fs -Fqt ext4 " + node_ + " && mkdir -p /mnt/data");
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    const pid_t child = ::fork();
    if (child == 0) {
        const bool mounted = ::unshare(CLONE_NEWNS) == 0 &&
                             ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                             ::mount(node_.c_str(), "/mnt/data", "ext4", 0, nullptr) == 0;
        if (::write(ready[1], mounted ? "y" : "n", 1) == 1) ::pause();
        ::_exit(0);
    }
    char answer = 0;
    ASSERT_EQ(::read(ready[0], &answer, 1), 1);
    ASSERT_EQ(answer, 'y');
    expect_refusal(fmt::format("{} is mounted at /mnt/data (ext4) for process {} (", node_, child));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    ::close(ready[0]);
    ::close(ready[1]);
    EXPECT_TRUE(eventually([&] { return custody_->holders(drive_).value().empty(); }));
}

TEST_F(HeldDrive, SwapIsNamed) {
    shell("mkswap " + node_ + " && swapon " + node_);
    expect_refusal(node_ + " is swap space");
    shell("swapoff " + node_);
}

TEST_F(HeldDrive, AMappedDeviceIsNamedWithWhatIsOnIt) {
    shell("dmsetup create data --table '0 16384 linear " + node_ + " 2048'");
    expect_refusal(node_ + " is part of /dev/dm-0 (mapped device data)");
    shell("dmsetup mknodes; mke2fs -Fqt ext4 /dev/dm-0 && mkdir -p /mnt/data && mount -t ext4 /dev/dm-0 "
          "/mnt/data");
    expect_refusal("/dev/dm-0 (data) on " + node_ + " is mounted at /mnt/data (ext4)");
    shell("umount /mnt/data && dmsetup remove data");
}

TEST_F(HeldDrive, AnArrayIsNamed) {
    shell("mdadm --create /dev/md0 --run --level=1 --force --raid-devices=1 --metadata=1.2 " + node_);
    expect_refusal(node_ + " is part of /dev/md0 (raid1 array)");
    shell("mdadm --stop /dev/md0 && mdadm --zero-superblock " + node_);
}

TEST_F(HeldDrive, ProcessesAreNamed) {
    const UniqueFd fd(::open(node_.c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(fd);
    expect_refusal(fmt::format("process {} (custody_host_te) has {} open", ::getpid(), node_));
    const std::string controller = "/dev/" + only(drive_, "nvme");
    const UniqueFd other(::open(controller.c_str(), O_RDONLY | O_CLOEXEC));
    EXPECT_THAT(custody_->holders(drive_).value(), Contains(HasSubstr(controller + " open")));
}

TEST_F(Hosts, ADriveGoesAndComesBack) {
    const auto drive = device("NVME");
    disk(drive);
    for (int i = 0; i < 3; ++i) {
        ASSERT_EQ(message(custody_->take(drive)), "");
        EXPECT_TRUE(custody_->taken(drive));
        EXPECT_EQ(text_of(*system_, attribute(drive, "reset_method")), "flr");
        {
            const auto function = vfio::open(drive);
            ASSERT_TRUE(function) << function.error().message();
            EXPECT_EQ(message((*function)->reset()), "");
            EXPECT_THAT(message(custody_->give_back(drive)), HasSubstr("(custody_host_te) has /dev/vfio/"));
        }
        ASSERT_EQ(message(custody_->give_back(drive)), "");
        EXPECT_EQ(driver(drive), "nvme");
        EXPECT_EQ(driver_override_of(*system_, drive), "");
        disk(drive);
    }
}

TEST_F(Hosts, ADriveStaysTakenWhenTheAgentStartsAnew) {
    const auto drive = device("NVME");
    disk(drive);
    ASSERT_EQ(message(custody_->take(drive)), "");
    reopen();
    EXPECT_TRUE(custody_->taken(drive));
    EXPECT_THAT(custody_->notes(), IsEmpty());
    ASSERT_EQ(message(custody_->give_back(drive)), "");
    EXPECT_EQ(driver(drive), "nvme");
}

TEST_F(Hosts, ACardThatOnlyItsBusCanResetGoesAndComesBack) {
    const auto card = device("EDU");
    ASSERT_EQ(message(custody_->take(card)), "");
    EXPECT_EQ(text_of(*system_, attribute(card, "reset_method")), "bus");
    ASSERT_EQ(message(custody_->give_back(card)), "");
    EXPECT_EQ(driver(card), "");
}

TEST_F(Hosts, AGraphicsFunctionGoesAndComesBack) {
    const auto card = device("GPU");
    ASSERT_EQ(driver(card), "virtio-pci");
    ASSERT_EQ(message(custody_->take(card)), "");
    ASSERT_EQ(message(custody_->give_back(card)), "");
    EXPECT_EQ(driver(card), "virtio-pci");
}

// vfio-pci itself is a driver that does not let go while somebody has its device.
TEST_F(Hosts, AnUnbindThatHangsCostsOnlyItsDeadline) {
    const auto card = device("EDU");
    ASSERT_EQ(message(custody_->take(card)), "");
    ChildProcesses children;
    const std::string path = attribute(card, "driver/unbind");
    {
        const auto function = vfio::open(card);
        ASSERT_TRUE(function);
        const auto written = children.write(path, pci::to_string(card), 300ms);
        ASSERT_FALSE(written);
        EXPECT_EQ(written.error().code(), Errc::timeout);
        const auto again = children.write(path, pci::to_string(card), 10s);
        ASSERT_FALSE(again);
        EXPECT_THAT(again.error().message(), HasSubstr("has not finished"));
    }
    EXPECT_TRUE(eventually([&] { return driver(card).empty(); }));
    ASSERT_EQ(message(custody_->take(card)), ""); // what was lost is bound again
    EXPECT_TRUE(custody_->taken(card));
    ASSERT_EQ(message(custody_->give_back(card)), "");
}

TEST_F(Hosts, AnInterfaceThatIsUpIsNamed) {
    const auto nic = device("IGB");
    const std::string name = only(nic, "net");
    shell("ip link set " + name + " up");
    EXPECT_THAT(message(custody_->take(nic)), HasSubstr(name + " is up"));
    shell("ip link set " + name + " down");
    ASSERT_EQ(message(custody_->take(nic)), "");
    ASSERT_EQ(message(custody_->give_back(nic)), "");
    EXPECT_EQ(driver(nic), "igb");
    EXPECT_EQ(only(nic, "net"), name);
}

TEST_F(Hosts, FunctionsOfANicAreMadeTakenCleanedAndRemoved) {
    const auto nic = device("IGB");
    const std::string name = only(nic, "net");
    const auto functions = set_functions({}, nic, 2, in(20s));
    ASSERT_TRUE(functions) << functions.error().message();
    ASSERT_EQ(functions->size(), 2U);
    EXPECT_EQ(driver(functions->at(0)), "");
    EXPECT_EQ(sriov(Paths{}, nic).value().enabled, 2U);
    EXPECT_THAT(message(custody_->take(nic)), HasSubstr("has 2 virtual functions"));

    ASSERT_EQ(message(custody_->take(functions->at(1))), "");
    shell("ip link set " + name + " vf 1 mac 52:54:00:12:34:99 && ip link set " + name +
          " vf 1 vlan 7 && ip link set " + name + " vf 1 spoofchk off");
    EXPECT_EQ(nic_function_settings(*system_, name, 1).value().vlan, 7U);
    ASSERT_EQ(message(clean_function({}, functions->at(1))), "");
    const auto clean = nic_function_settings(*system_, name, 1).value();
    EXPECT_EQ(clean.vlan, 0U);
    EXPECT_NE(clean.mac, (MacAddress{0x52, 0x54, 0x00, 0x12, 0x34, 0x99}));
    EXPECT_TRUE(clean.spoof_check);
    EXPECT_EQ(message(clean_function({}, functions->at(1))), "");

    {
        const auto open = vfio::open(functions->at(1));
        ASSERT_TRUE(open) << open.error().message();
        const auto removed = set_functions({}, nic, 0, in(20s));
        ASSERT_FALSE(removed);
        EXPECT_THAT(removed.error().message(), HasSubstr("has /dev/vfio/"));
    }
    ASSERT_EQ(message(custody_->give_back(functions->at(1))), "");
    EXPECT_EQ(driver(functions->at(1)), "");
    ASSERT_TRUE(set_functions({}, nic, 0, in(20s)));
    EXPECT_EQ(sriov(Paths{}, nic).value().functions.size(), 0U);
    EXPECT_EQ(text_of(*system_, attribute(nic, "sriov_drivers_autoprobe")), "1");
}

// Writes blocks that begin with TEXT to a drive's only namespace, reads them back, and says which it is.
uint32_t write_and_read(pci::Function& function, char text) {
    nvme::DriverOptions options;
    options.io_queues = 1;
    auto driver = nvme::Driver::create(function, io::system_clock(), options);
    if (!driver) throw std::runtime_error(driver.error().message());
    EXPECT_EQ((*driver)->namespaces().size(), 1U);
    const auto space = (*driver)->namespaces().at(0);
    auto queue = (*driver)->create_queue({.depth = 8});
    if (!queue) throw std::runtime_error(queue.error().message());
    auto memory = (*driver)->allocate(8192).value();
    std::ranges::fill(memory.bytes(), static_cast<std::byte>(text));
    const uint32_t blocks = 4096 / space.block_bytes;
    EXPECT_TRUE((*queue)->execute(nvme::make_write(space, 0, blocks, {memory, 0}).value(), 10s).ok());
    EXPECT_TRUE((*queue)->execute(nvme::make_read(space, 0, blocks, {memory, 4096}).value(), 10s).ok());
    EXPECT_EQ(std::memcmp(memory.bytes().data(), memory.bytes().data() + 4096, 4096), 0);
    memory = {};
    EXPECT_TRUE((*driver)->shut_down());
    return space.nsid;
}

// Each is a drive of its own, with a namespace that neither its parent nor its sibling uses; the parent goes
// on meanwhile.
TEST_F(Hosts, FunctionsOfADriveComeOnlineBesideTheirParent) {
    const auto parent = device("NVME_PARENT");
    const std::string node = "/dev/" + disk(parent);
    shell("mke2fs -Fqt ext4 " + node + " && mkdir -p /mnt/parent && mount -t ext4 " + node + " /mnt/parent");
    const auto functions = set_functions({}, parent, 2, in(30s));
    ASSERT_TRUE(functions) << functions.error().message();
    ASSERT_EQ(functions->size(), 2U);
    shell("dd if=/dev/urandom of=/mnt/parent/data bs=64k count=16 && sync");
    for (uint32_t index = 0; index < 2; ++index) {
        const auto& function = functions->at(index);
        ASSERT_EQ(message(custody_->take(function)), "");
        ASSERT_EQ(message(clean_function({}, function)), "");
        const auto open = vfio::open(function);
        ASSERT_TRUE(open) << open.error().message();
        EXPECT_EQ(write_and_read(**open, static_cast<char>('a' + index)), index + 2);
        ASSERT_EQ(message((*open)->reset()), "");
        EXPECT_EQ(write_and_read(**open, 'z'), index + 2);
    }
    for (const auto& function : *functions)
        ASSERT_EQ(message(custody_->give_back(function)), "");
    ASSERT_EQ(set_functions({}, parent, 2, in(20s)).value(), *functions); // nothing to do
    ASSERT_TRUE(set_functions({}, parent, 0, in(20s)));
    shell("sync && echo 3 >/proc/sys/vm/drop_caches && e2fsck -fn " + node +
          " || true; umount /mnt/parent && e2fsck -fn " + node);
    EXPECT_EQ(driver(parent), "nvme");
}

// A card whose second function has another driver: both go, and only VFIO can reset the first.
TEST_F(Hosts, ACardOfTwoFunctionsGoesAsAWhole) {
    const auto first = device("PAIR");
    auto second = first;
    second.function = 1;
    disk(second);
    EXPECT_THAT(custody_->group(first).value(), ElementsAre(first, second));
    ASSERT_EQ(message(custody_->take(first)), "");
    EXPECT_EQ(driver(second), "vfio-pci");
    {
        const auto open = vfio::open(first);
        ASSERT_TRUE(open) << open.error().message();
        EXPECT_EQ(message((*open)->reset()), "");
    }
    ASSERT_EQ(message(custody_->give_back(first)), "");
    EXPECT_EQ(driver(first), "");
    EXPECT_EQ(driver(second), "nvme");
}

// Killed in the middle of taking and of giving back, at a later moment each time.
TEST_F(Hosts, ACrashLeavesNothingHalfDone) {
    const auto first = device("PAIR");
    auto second = first;
    second.function = 1;
    disk(second);
    int seen_taken = 0, seen_own = 0;
    for (int round = 0; round < 8; ++round) {
        custody_.reset();
        const pid_t child = ::fork();
        if (child == 0) {
            const auto custody = Custody::open(Paths{}, "/tmp/custody.json");
            while (custody && (*custody)->take(first) && (*custody)->give_back(first)) {
            }
            ::_exit(1);
        }
        std::this_thread::sleep_for(20ms + round * 17ms);
        ::kill(child, SIGKILL);
        ASSERT_EQ(::waitpid(child, nullptr, 0), child);
        reopen();
        const bool taken = custody_->taken(first);
        ++(taken ? seen_taken : seen_own);
        EXPECT_EQ(driver(first), taken ? "vfio-pci" : "") << round;
        EXPECT_EQ(driver(second), taken ? "vfio-pci" : "nvme") << round;
        EXPECT_EQ(driver_override_of(*system_, second), taken ? "vfio-pci" : "") << round;
    }
    fmt::print("after a crash: {} times taken, {} times its host's own\n", seen_taken, seen_own);
    ASSERT_EQ(message(custody_->give_back(first)), "");
    EXPECT_EQ(driver(second), "nvme");
    disk(second);
}

TEST_F(Hosts, LoadsVfio) {
    shell("modprobe -r vfio_pci");
    ASSERT_FALSE(fs::exists("/sys/bus/pci/drivers/vfio-pci"));
    const auto card = device("EDU");
    ASSERT_EQ(message(custody_->take(card)), "");
    ASSERT_EQ(message(custody_->give_back(card)), "");
}

} // namespace
} // namespace lanepool::local_devices
