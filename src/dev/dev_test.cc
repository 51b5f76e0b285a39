// SPDX-License-Identifier: Apache-2.0
#include "base/temporary_folder.h"
#include "dev/control_plane.h"
#include "dev/guest_exec.h"
#include "dev/process_table.h"

#include <csignal>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <set>
#include <stdlib.h>
#include <sys/wait.h>

namespace lanepool::dev {
namespace {

using namespace std::chrono_literals;

class ProcessTableTest : public testing::Test {
  protected:
    TemporaryFolder folder_;
};

TEST_F(ProcessTableTest, FindsAProcessAgainAndStopsIt) {
    {
        auto table = ProcessTable::open(folder_.path(), 1s);
        ASSERT_TRUE(table->start("sleeper", {"sleep", "60"}, folder_ / "log"));
        EXPECT_EQ(table->start("sleeper", {"sleep", "60"}, folder_ / "log").error().code(),
                  Errc::already_exists);
    }
    auto table = ProcessTable::open(folder_.path(), 1s);
    ASSERT_TRUE(table->running("sleeper"));
    const Process process = table->processes().at("sleeper");
    ASSERT_TRUE(table->stop({"sleeper"}, 5s));
    EXPECT_FALSE(is_running(process));
    EXPECT_FALSE(table->running("sleeper"));
}

TEST_F(ProcessTableTest, OneThatIgnoresTheRequestIsKilled) {
    auto table = ProcessTable::open(folder_.path(), 1s);
    ASSERT_TRUE(table->start("stubborn", {"sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"},
                             folder_ / "log"));
    while (std::filesystem::file_size(folder_ / "log") == 0)
        ::usleep(1000);
    const Process process = table->processes().at("stubborn");
    ASSERT_TRUE(table->stop({"stubborn"}, 100ms));
    EXPECT_FALSE(is_running(process));
}

TEST_F(ProcessTableTest, APidThatWasGivenToSomebodyElseIsNotOurs) {
    const Process other{"other", ::getpid(), 1, {}};
    EXPECT_FALSE(is_running(other));
}

TEST_F(ProcessTableTest, TwoCommandsDoNotActAtOnce) {
    auto first = ProcessTable::open(folder_.path(), 1s);
    EXPECT_EQ(ProcessTable::open(folder_.path(), 10ms).error().code(), Errc::busy);
}

TEST_F(ProcessTableTest, AControlPlaneIsDecidedOnce) {
    EXPECT_EQ(ControlPlane::read(folder_.path())->endpoints("/f"), "unix:/f/controller.sock");
    const auto first = ControlPlane::open(folder_.path(), 3);
    ASSERT_TRUE(first) << first.error().message();
    std::set<uint16_t> ports;
    for (const auto& [client, peer] : first->etcd)
        ports.insert({client, peer});
    EXPECT_EQ(ports.size(), 6U);
    const auto again = ControlPlane::open(folder_.path(), 0);
    EXPECT_EQ(again->members(folder_.path())[2].argv, first->members(folder_.path())[2].argv);
    EXPECT_EQ(again->endpoints("/f"),
              "unix:/f/controller0.sock,unix:/f/controller1.sock,unix:/f/controller2.sock");
    EXPECT_EQ(ControlPlane::open(folder_.path(), 1).error().code(), Errc::failed_precondition);
}

TEST_F(ProcessTableTest, WithoutEtcdThereIsOneControllerOnly) {
    const std::string path = std::getenv("PATH");
    ::setenv("PATH", folder_.path().c_str(), 1);
    const auto several = ControlPlane::open(folder_.path(), 3);
    const auto one = ControlPlane::open(folder_.path(), 1);
    ::setenv("PATH", path.c_str(), 1);
    ASSERT_FALSE(several);
    EXPECT_THAT(several.error().message(), testing::HasSubstr("etcd-server"));
    EXPECT_TRUE(one);
}

TEST(Base64, RoundTripsEveryRemainder) {
    for (const std::string text : {"", "f", "fo", "foo", "foob"})
        EXPECT_EQ(*base64_decode(base64_encode(text)), text);
    EXPECT_EQ(base64_encode("fo"), "Zm8=");
    EXPECT_FALSE(base64_decode("?"));
}

} // namespace
} // namespace lanepool::dev
