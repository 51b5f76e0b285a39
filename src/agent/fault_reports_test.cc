// SPDX-License-Identifier: Apache-2.0
#include "agent/fault_reports.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

namespace lanepool::agent {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class FaultReportsTest : public ::testing::Test {
  protected:
    struct HandClock final : io::Clock {
        io::TimePoint now() const override { return at; }
        int64_t unix_time_us() const override { return 0; }
        io::TimePoint at{1h};
    };

    void pass(io::Duration time) {
        clock.at += time;
        loop->run_once(0ms);
    }
    void fault(const std::string& device, uint64_t loan, const std::string& text, uint64_t count = 1) {
        reports.add({device, loan, loan * 10, text, count});
    }
    std::vector<std::string> take() { return std::exchange(sent, {}); }

    HandClock clock;
    std::unique_ptr<io::EventLoop> loop = *io::EventLoop::create(clock);
    bool connected = true;
    std::vector<std::string> sent;
    FaultReports reports{*loop, [this](const FaultReport& fault) {
                             if (connected)
                                 sent.push_back(fmt::format("{} loan {}.{}: {} x{}", fault.device,
                                                            fault.loan_id, fault.epoch, fault.text,
                                                            fault.count));
                             return connected;
                         }};
};

TEST_F(FaultReportsTest, TheFirstAtOnceAndThoseThatFollowTogether) {
    fault("edu0", 7, "a");
    EXPECT_THAT(take(), ElementsAre("edu0 loan 7.70: a x1"));
    for (const char* text : {"b", "c", "d"})
        fault("edu0", 7, text);
    pass(9'999ms);
    EXPECT_THAT(take(), IsEmpty());
    pass(1ms);
    EXPECT_THAT(take(), ElementsAre("edu0 loan 7.70: b x3"));
    fault("edu0", 7, "e");
    EXPECT_THAT(take(), IsEmpty());
    pass(10s);
    EXPECT_THAT(take(), ElementsAre("edu0 loan 7.70: e x1"));
}

TEST_F(FaultReportsTest, AfterAQuietTimeAtOnceAgain) {
    fault("edu0", 7, "a");
    pass(10s);
    fault("edu0", 7, "b");
    EXPECT_THAT(take(), ElementsAre("edu0 loan 7.70: a x1", "edu0 loan 7.70: b x1"));
}

TEST_F(FaultReportsTest, EachDeviceForItself) {
    fault("edu0", 7, "a");
    fault("edu1", 8, "b");
    EXPECT_THAT(take(), ElementsAre("edu0 loan 7.70: a x1", "edu1 loan 8.80: b x1"));
}

TEST_F(FaultReportsTest, ANewLoanGetsItsOwnAndNothingOfTheOldOne) {
    fault("edu0", 7, "a");
    fault("edu0", 7, "b");
    fault("edu0", 8, "c");
    EXPECT_THAT(take(), ElementsAre("edu0 loan 7.70: a x1", "edu0 loan 7.70: b x1", "edu0 loan 8.80: c x1"));
    pass(10s);
    EXPECT_THAT(take(), IsEmpty());
}

TEST_F(FaultReportsTest, WhatCannotBeSentIsSentLaterAsOne) {
    connected = false;
    fault("edu0", 7, "a");
    fault("edu0", 7, "b", UINT64_MAX);
    pass(10s);
    connected = true;
    pass(10s);
    EXPECT_THAT(take(), ElementsAre(fmt::format("edu0 loan 7.70: a x{}", UINT64_MAX)));
}

} // namespace
} // namespace lanepool::agent
