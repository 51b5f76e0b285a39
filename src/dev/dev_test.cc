// SPDX-License-Identifier: Apache-2.0
#include "dev/guest_exec.h"
#include "dev/process_table.h"

#include <csignal>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>

namespace lanepool::dev {
namespace {

using namespace std::chrono_literals;

class ProcessTableTest : public testing::Test {
  protected:
    void SetUp() override {
        char name[] = "/tmp/lanepool-dev-test-XXXXXX";
        ASSERT_NE(::mkdtemp(name), nullptr);
        folder_ = name;
    }
    void TearDown() override { std::filesystem::remove_all(folder_); }
    std::filesystem::path folder_;
};

TEST_F(ProcessTableTest, FindsAProcessAgainAndStopsIt) {
    {
        auto table = ProcessTable::open(folder_, 1s);
        ASSERT_TRUE(table->start("sleeper", {"sleep", "60"}, folder_ / "log"));
        EXPECT_EQ(table->start("sleeper", {"sleep", "60"}, folder_ / "log").error().code(),
                  Errc::already_exists);
    }
    auto table = ProcessTable::open(folder_, 1s);
    ASSERT_TRUE(table->running("sleeper"));
    const Process process = table->processes().at("sleeper");
    ASSERT_TRUE(table->stop({"sleeper"}, 5s));
    EXPECT_FALSE(is_running(process));
    EXPECT_FALSE(table->running("sleeper"));
}

TEST_F(ProcessTableTest, OneThatIgnoresTheRequestIsKilled) {
    auto table = ProcessTable::open(folder_, 1s);
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
    auto first = ProcessTable::open(folder_, 1s);
    EXPECT_EQ(ProcessTable::open(folder_, 10ms).error().code(), Errc::busy);
}

TEST(Base64, RoundTripsEveryRemainder) {
    for (const std::string text : {"", "f", "fo", "foo", "foob"})
        EXPECT_EQ(*base64_decode(base64_encode(text)), text);
    EXPECT_EQ(base64_encode("fo"), "Zm8=");
    EXPECT_FALSE(base64_decode("?"));
}

} // namespace
} // namespace lanepool::dev
