// SPDX-License-Identifier: Apache-2.0
#include "base/temporary_folder.h"
#include "dev/cache.h"
#include "dev/certificates.h"
#include "dev/control_plane.h"
#include "dev/guest_exec.h"
#include "dev/host_setup.h"
#include "dev/overlay.h"
#include "dev/whole_host.h"
#include "dev/whole_plan.h"

#include <algorithm>
#include <cstdlib>
#include <elf.h>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <iterator>
#include <sys/stat.h>

namespace lanepool::dev {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

// ---- the archive

struct Entry {
    std::string name, data;
    unsigned mode;
    bool operator==(const Entry&) const = default;
};

void PrintTo(const Entry& entry, std::ostream* out) { *out << entry.name << " " << entry.mode; }

// As the kernel reads it (init/initramfs.c): fields of eight hexadecimal digits; name and data padded to
// four.
std::vector<Entry> entries_of(std::string_view bytes) {
    std::vector<Entry> list;
    while (!bytes.empty()) {
        EXPECT_EQ(bytes.substr(0, 6), "070701");
        const auto field = [&](size_t index) {
            return std::stoul(std::string(bytes.substr(6 + 8 * index, 8)), nullptr, 16);
        };
        const size_t data_bytes = field(6), name_bytes = field(11), data_at = (110 + name_bytes + 3) / 4 * 4;
        EXPECT_EQ(bytes[110 + name_bytes - 1], '\0');
        list.push_back({std::string(bytes.substr(110, name_bytes - 1)),
                        std::string(bytes.substr(data_at, data_bytes)), static_cast<unsigned>(field(1))});
        bytes.remove_prefix(data_at + (data_bytes + 3) / 4 * 4);
    }
    return list;
}

TEST(Overlay, AnArchiveHasEachFolderOnce) {
    Archive archive;
    archive.add("/usr/bin/program", "abcde", 0755);
    archive.add("/usr/lib/x", "", 0644);
    EXPECT_THAT(entries_of(archive.finish()),
                ElementsAre(Entry{"usr", "", S_IFDIR | 0755}, Entry{"usr/bin", "", S_IFDIR | 0755},
                            Entry{"usr/bin/program", "abcde", S_IFREG | 0755},
                            Entry{"usr/lib", "", S_IFDIR | 0755}, Entry{"usr/lib/x", "", S_IFREG | 0644},
                            Entry{"TRAILER!!!", "", 0}));
}

std::string own_program() {
    std::ifstream stream("/proc/self/exe", std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
}

TEST(Overlay, AProgramWithoutItsSectionsRuns) {
    const TemporaryFolder folder;
    std::ifstream stream("/bin/true", std::ios::binary);
    const std::string whole{std::istreambuf_iterator<char>(stream), {}};
    const auto part = loadable_part(whole);
    ASSERT_TRUE(part) << part.error().message();
    EXPECT_LT(part->size(), whole.size());
    const auto program = folder / "true";
    std::ofstream(program, std::ios::binary) << *part;
    ::chmod(program.c_str(), 0755);
    EXPECT_EQ(std::system(program.c_str()), 0);
}

TEST(Overlay, WhatIsNoProgramIsRefused) {
    const std::string program = own_program();
    EXPECT_FALSE(loadable_part(""));
    EXPECT_FALSE(
        loadable_part("#!/bin/sh\necho this is a script, and longer than the header of a program\n"));
    EXPECT_FALSE(loadable_part(program.substr(0, sizeof(Elf64_Ehdr))));
    EXPECT_FALSE(loadable_part(program.substr(0, 8192)));
}

TEST(Overlay, TheLibrariesThatAProgramNeedsAreThere) {
    std::vector<std::string> targets;
    for (const auto& library : own_libraries()) {
        EXPECT_TRUE(std::filesystem::exists(library.source)) << library.source;
        targets.push_back(library.target);
    }
    EXPECT_THAT(targets, Contains("/lib/x86_64-linux-gnu/libc.so.6"));
    EXPECT_THAT(targets, Contains("/lib/x86_64-linux-gnu/libresolv.so.2")); // not loaded, but of one build
    EXPECT_THAT(targets, Contains("/lib64/ld-linux-x86-64.so.2"));
    std::sort(targets.begin(), targets.end());
    EXPECT_EQ(std::adjacent_find(targets.begin(), targets.end()), targets.end());
}

TEST(Overlay, TheArchiveStandsBehindTheImage) {
    const TemporaryFolder folder;
    std::ofstream(folder / "image") << "an archive";
    std::ofstream(folder / "module") << "a module";
    const auto written =
        write_initramfs(folder / "both", folder / "image", "/proc/self/exe", folder / "module");
    ASSERT_TRUE(written) << written.error().message();
    std::ifstream stream(folder / "both", std::ios::binary);
    const std::string both{std::istreambuf_iterator<char>(stream), {}};
    EXPECT_TRUE(both.starts_with("an archive"));
    const auto entries = entries_of(std::string_view(both).substr(512));
    EXPECT_THAT(entries, Contains(Entry{"usr/bin/lanepool", *loadable_part(own_program()), S_IFREG | 0755}));
    EXPECT_THAT(entries, Contains(Entry{"usr/lib/lanepool/lanepool_bridge.ko", "a module", S_IFREG | 0644}));
    EXPECT_EQ(entries.back().name, "TRAILER!!!");
}

// ---- what a cluster has

class WholePlanTest : public testing::Test {
  protected:
    TemporaryFolder folder_;
};

TEST_F(WholePlanTest, IsDecidedOnce) {
    const auto first = WholePlan::decide(folder_.path(), {.borrowers = {{"x", "y"}},
                                                          .drives = 3,
                                                          .drive_bytes = {},
                                                          .memory_mib = {},
                                                          .kernels = {"6.1", "y=6.12"}});
    ASSERT_TRUE(first) << first.error().message();
    EXPECT_THAT(first->hosts(), ElementsAre("store", "x", "y"));
    EXPECT_EQ(first->kernels.at("store"), "6.1");
    EXPECT_EQ(first->kernels.at("y"), "6.12");
    EXPECT_FALSE(WholePlan::read(folder_.path()).value());
    ASSERT_TRUE(first->save(folder_.path()));
    EXPECT_EQ(WholePlan::decide(folder_.path(), {}).value(), *first);
    WholeWishes other;
    other.drives = 3;
    EXPECT_EQ(WholePlan::decide(folder_.path(), other).value(), *first);
    other.drives = 2;
    EXPECT_EQ(WholePlan::decide(folder_.path(), other).error().code(), Errc::failed_precondition);
}

TEST_F(WholePlanTest, AClusterWithoutWholeHostsStaysOne) {
    std::ofstream(folder_ / "processes.json") << "{}";
    const auto plan = WholePlan::decide(folder_.path(), {});
    ASSERT_FALSE(plan);
    EXPECT_THAT(plan.error().message(), HasSubstr("has no whole hosts"));
}

TEST_F(WholePlanTest, RefusesWhatCannotBe) {
    const auto refused = [&](const WholeWishes& wishes) {
        const auto plan = WholePlan::decide(folder_.path(), wishes);
        return plan ? "" : plan.error().message();
    };
    WholeWishes wishes;
    wishes.borrowers = {{"a", "store"}};
    EXPECT_THAT(refused(wishes), HasSubstr("same name"));
    wishes.borrowers = {{"a;b"}};
    EXPECT_THAT(refused(wishes), HasSubstr("'a;b' is no name"));
    wishes = {};
    wishes.drives = 13;
    EXPECT_THAT(refused(wishes), HasSubstr("1 to 12 drives"));
    wishes = {};
    wishes.kernels = {"5.10"};
    EXPECT_THAT(refused(wishes), HasSubstr("there are 6.1, 6.12"));
    wishes.kernels = {"z=6.1"};
    EXPECT_THAT(refused(wishes), HasSubstr("no such host"));
}

TEST_F(WholePlanTest, ADamagedFileIsSaidToBe) {
    for (const char* text : {"", "[]", R"({"lender": "store"})",
                             R"({"lender": "a/b", "borrowers": [], "drives": 1, "drive_bytes": 1048576,)"
                             R"( "memory_mib": 512, "kernels": {"a/b": "6.1"}})"}) {
        std::ofstream(folder_ / "whole-hosts.json") << text;
        const auto plan = WholePlan::read(folder_.path());
        ASSERT_FALSE(plan) << text;
        EXPECT_THAT(plan.error().message(), HasSubstr("damaged"));
    }
}

// ---- who lets whom in

TEST_F(WholePlanTest, ControllersThatOtherMachinesReachHaveCertificates) {
    const auto plane = ControlPlane::open(folder_.path(), 1, true);
    ASSERT_TRUE(plane) << plane.error().message();
    ASSERT_THAT(plane->tcp, SizeIs(1));
    const auto port = plane->tcp[0];
    EXPECT_EQ(plane->tcp_endpoints("10.0.2.2"), fmt::format("10.0.2.2:{}", port));
    const auto daemons = plane->daemons(folder_.path(), "lanepool");
    ASSERT_TRUE(daemons) << daemons.error().message();
    EXPECT_THAT((*daemons)[0].argv, Contains(HasSubstr(fmt::format(",127.0.0.1:{}", port))));
    EXPECT_THAT((*daemons)[0].argv, Contains("--tls-crl"));
    EXPECT_EQ(ControlPlane::open(folder_.path(), 0)->daemons(folder_.path(), "lanepool")->at(0).argv,
              (*daemons)[0].argv);
}

TEST_F(WholePlanTest, AHostKeepsItsCertificate) {
    const pki::Holder holder{.name = "host-a", .role = pki::Role::agent, .host = "a", .dns = {}, .ip = {}};
    const auto text = [](const std::filesystem::path& file) {
        std::ifstream stream(file);
        return std::string{std::istreambuf_iterator<char>(stream), {}};
    };
    const auto files = certificate_files(folder_.path(), holder);
    ASSERT_TRUE(files) << files.error().message();
    const auto certificate = text(files->certificate);
    EXPECT_EQ(pki::identity_of(certificate)->host, "a");
    EXPECT_TRUE(certificate_files(folder_.path(), holder));
    EXPECT_EQ(text(files->certificate), certificate);
}

// ---- the host

TEST(WholeHost, IsDescribedToQemu) {
    WholeHost host{.name = "a",
                   .folder = "/f,g",
                   .image = {"qemu", "/k", "/i", "/m"},
                   .initramfs = "/initramfs",
                   .adapter = "/fabric/port1.sock",
                   .memory_mib = 400,
                   .devices = {nvme_drive("nvme0", "/f,g/nvme0.raw"), teaching_card("edu0")}};
    const auto argv = whole_host_command(host);
    EXPECT_EQ(argv[0], "qemu");
    EXPECT_THAT(argv, Contains(AllOf(HasSubstr("addr=0x10"), HasSubstr("id=rp-nvme0"))));
    EXPECT_THAT(argv, Contains("nvme,drive=disk-nvme0,serial=nvme0,dbcs=off,id=nvme0,bus=rp-nvme0"));
    EXPECT_THAT(argv, Contains(HasSubstr("file=/f,,g/nvme0.raw")));
    EXPECT_THAT(argv, Contains(AllOf(HasSubstr("addr=0x12"), HasSubstr("id=rp-adapter"))));
    EXPECT_THAT(argv, Contains(HasSubstr(R"("path":"/fabric/port1.sock")")));
    EXPECT_EQ(root_port_address(2), "0000:00:12.0");
}

TEST(WholeHost, WhatIsMissingIsNamedWithItsRemedy) {
    const TemporaryFolder cache;
    const char* old = std::getenv("LANEPOOL_CACHE");
    const std::string before = old ? old : "";
    ::setenv("LANEPOOL_CACHE", cache.path().c_str(), 1);
    std::filesystem::create_directories(cache / "bin");
    std::filesystem::create_directories(cache / "hosts/6.1");
    const auto nothing = host_image("6.1");
    for (const char* file : {"bin/qemu-system-x86_64", "hosts/6.1/vmlinux", "hosts/6.1/initramfs.img"})
        std::ofstream{cache / file};
    const auto no_module = host_image("6.1");
    old ? ::setenv("LANEPOOL_CACHE", before.c_str(), 1) : ::unsetenv("LANEPOOL_CACHE");
    ASSERT_FALSE(nothing);
    EXPECT_THAT(nothing.error().message(),
                HasSubstr("bin/qemu-system-x86_64 is missing; run script/bootstrap"));
    ASSERT_FALSE(no_module);
    EXPECT_THAT(no_module.error().message(),
                HasSubstr("bridge/6.1/lanepool_bridge.ko is missing; run script/bootstrap bridge"));
}

TEST(HostSetup, IsAShellCommandWhateverStandsInIt) {
    const TemporaryFolder folder;
    const HostSetup setup{.host = "a'b",
                          .controllers = "10.0.2.2:1",
                          .ca = "'; exit 3; '",
                          .certificate = "$(exit 4)",
                          .key = "`exit 5`",
                          .adapter_port = "0000:00:10.0",
                          .lent = {{"nvme0", "0000:00:11.0"}},
                          .borrows = true};
    const std::string command = setup_command(setup);
    std::ofstream(folder / "script") << command;
    EXPECT_EQ(std::system(fmt::format("sh -n {}", (folder / "script").string()).c_str()), 0);
    // The words in front, and nothing of what follows them.
    const auto words = command.substr(0, command.find("fail()"));
    std::ofstream(folder / "words")
        << words << "[ \"$ca\" = \"'; exit 3; '\" ] && [ \"$borrows$lent\" = 1nvme0=0000:00:11.0 ]";
    EXPECT_EQ(std::system(fmt::format("sh {}", (folder / "words").string()).c_str()), 0);
}

} // namespace
} // namespace lanepool::dev
