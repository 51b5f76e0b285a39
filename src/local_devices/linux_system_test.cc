// SPDX-License-Identifier: Apache-2.0
#include "base/eventually.h"
#include "base/temporary_folder.h"
#include "base/unique_fd.h"
#include "local_devices/child_process.h"
#include "local_devices/system.h"

#include <fcntl.h>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace lanepool::local_devices {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

class LinuxSystemTest : public testing::Test {
  protected:
    LinuxSystemTest() {
        std::filesystem::create_directories(folder_ / "sys/bus");
        put("sys/attribute", "text\n");
    }
    void put(const std::string& name, const std::string& text) { std::ofstream(folder_ / name) << text; }
    std::string content(const std::string& name) {
        std::ifstream file(folder_ / name);
        return {std::istreambuf_iterator<char>(file), {}};
    }

    TemporaryFolder folder_;
    const std::unique_ptr<System> system_ =
        linux_system({folder_ / "sys", folder_ / "proc", folder_ / "dev"});
};

TEST_F(LinuxSystemTest, ReadsASavedTree) {
    EXPECT_EQ(system_->read("/sys/attribute").value(), "text\n");
    EXPECT_EQ(system_->read("/sys/other").error().code(), Errc::not_found);
    EXPECT_TRUE(system_->exists("/sys/bus"));
    EXPECT_FALSE(system_->exists("/proc/1"));
}

TEST_F(LinuxSystemTest, ListsWithKinds) {
    std::filesystem::create_symlink("attribute", folder_ / "sys/link");
    const auto entries = system_->list("/sys").value();
    std::vector<std::string> names;
    for (const auto& entry : entries)
        names.push_back(entry.name);
    EXPECT_THAT(names, ElementsAre("attribute", "bus", "link"));
    EXPECT_EQ(entries[0].kind, Entry::Kind::file);
    EXPECT_EQ(entries[1].kind, Entry::Kind::folder);
    EXPECT_EQ(entries[2].kind, Entry::Kind::link);
    EXPECT_EQ(system_->read_link("/sys/link").value(), "attribute");
}

TEST_F(LinuxSystemTest, AFileWithoutEndIsNotReadForEver) {
    std::filesystem::create_symlink("/dev/zero", folder_ / "sys/endless");
    EXPECT_EQ(system_->read("/sys/endless").error().code(), Errc::no_space);
}

TEST_F(LinuxSystemTest, Writes) {
    ASSERT_TRUE(system_->write("/sys/attribute", "more", 5s));
    EXPECT_EQ(content("sys/attribute"), "more\n"); // over what stood there
}

TEST_F(LinuxSystemTest, TellsWhyAWriteFails) {
    const auto written = system_->write("/sys/nothing", "1\n", 5s);
    ASSERT_FALSE(written);
    EXPECT_EQ(written.error().code(), Errc::not_found);
    EXPECT_THAT(written.error().message(), HasSubstr("writing '1' to"));
}

// Opening a FIFO that nobody reads takes as long as an unbind that hangs.
TEST_F(LinuxSystemTest, AWriteThatHangsCostsItsDeadline) {
    ASSERT_EQ(::mkfifo((folder_ / "sys/fifo").c_str(), 0600), 0);
    const auto start = std::chrono::steady_clock::now();
    const auto written = system_->write("/sys/fifo", "1", 20ms);
    ASSERT_FALSE(written);
    EXPECT_EQ(written.error().code(), Errc::timeout);
    EXPECT_LT(std::chrono::steady_clock::now() - start, 5s);
}

TEST_F(LinuxSystemTest, KnowsDeviceNodes) {
    std::filesystem::create_directory(folder_ / "dev");
    std::filesystem::create_symlink("/dev/null", folder_ / "dev/null");
    EXPECT_EQ(system_->device_number("/dev/null"), (DeviceNumber{false, 1, 3}));
    EXPECT_EQ(system_->device_number("/sys/attribute"), std::nullopt);
    EXPECT_FALSE(system_->claimed("/dev/null"));
}

TEST_F(LinuxSystemTest, KeepsAFileOfItsOwn) {
    const auto path = folder_ / "state";
    EXPECT_EQ(system_->load(path).value(), std::nullopt);
    ASSERT_TRUE(system_->save(path, "one"));
    ASSERT_TRUE(system_->save(path, "two"));
    EXPECT_EQ(system_->load(path).value(), "two");
}

TEST_F(LinuxSystemTest, LooksAtRegisters) {
    put("sys/resource0", std::string(4096, '\xff'));
    EXPECT_TRUE(system_->reads_all_ones("/sys/resource0").value());
    put("sys/resource0", std::string(4096, '\0'));
    EXPECT_FALSE(system_->reads_all_ones("/sys/resource0").value());
    EXPECT_FALSE(system_->reads_all_ones("/sys/resource1"));
}

TEST_F(LinuxSystemTest, AnAccessThatKillsIsAnError) {
    put("sys/resource0", ""); // nothing behind the mapping: SIGBUS
    EXPECT_EQ(system_->reads_all_ones("/sys/resource0").error().code(), Errc::io);
}

// What the kernel keeps must not keep the devices of who asked: neither descriptors nor mappings.
TEST_F(LinuxSystemTest, AStuckProcessHoldsNothingElse) {
    ASSERT_EQ(::mkfifo((folder_ / "sys/fifo").c_str(), 0600), 0);
    const UniqueFd memory = create_memory("held by a test", 4096).value();
    void* const mapping = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, memory.get(), 0);
    ASSERT_NE(mapping, MAP_FAILED);
    std::string seen;
    std::thread writer([&] { (void)system_->write("/sys/fifo", "1", 10s); });
    const auto child = [] {
        std::ifstream children(fmt::format("/proc/self/task/{}/children", ::getpid()));
        std::ifstream any;
        for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
            std::ifstream list(task.path() / "children");
            if (int pid = 0; list >> pid) return pid;
        }
        return 0;
    };
    ASSERT_TRUE(eventually([&] {
        const int pid = child();
        if (pid == 0) return false;
        std::ifstream maps(fmt::format("/proc/{}/maps", pid));
        const std::string text(std::istreambuf_iterator<char>(maps), {});
        std::error_code ignored;
        const auto files = std::filesystem::directory_iterator(fmt::format("/proc/{}/fd", pid), ignored);
        return !text.empty() && text.find("held by a test") == std::string::npos &&
               std::distance(begin(files), end(files)) == 0;
    }));
    const UniqueFd reader(::open((folder_ / "sys/fifo").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    writer.join();
    ::munmap(mapping, 4096);
}

TEST(ChildProcesses, RunPrograms) {
    ChildProcesses children;
    EXPECT_EQ(children.run({"/bin/sh", "-c", "exit 3"}, 10s).value(), 3);
    EXPECT_FALSE(children.run({"/nowhere/program"}, 10s));
    EXPECT_EQ(children.run({"/bin/sleep", "60"}, 20ms).error().code(), Errc::timeout);
}

} // namespace
} // namespace lanepool::local_devices
