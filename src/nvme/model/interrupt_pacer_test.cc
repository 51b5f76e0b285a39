// SPDX-License-Identifier: Apache-2.0
#include "nvme/model/interrupt_pacer.h"

#include <gtest/gtest.h>

namespace lanepool::nvme::model {
namespace {

using std::chrono::microseconds;

class StoppedClock final : public io::Clock {
  public:
    io::TimePoint now() const override { return time; }
    int64_t unix_time_us() const override { return 0; }
    io::TimePoint time;
};

class Pacer : public ::testing::Test {
  protected:
    bool due() { return pacer_.due(clock_.time); }
    void pass(io::Duration time) { clock_.time += time; }
    // A host that takes a completion before it submits the next command; returns what the interrupt waited.
    io::Duration one_at_a_time() {
        const auto start = clock_.time;
        pacer_.posted();
        while (!due())
            pass(microseconds(1));
        pacer_.signalled(clock_.time);
        const auto waited = clock_.time - start;
        pass(microseconds(60));
        pacer_.host_looked(0);
        return waited;
    }
    // One that goes on submitting every 9 us; returns how many entries the interrupt told of.
    unsigned burst() {
        unsigned count = 0;
        for (; count == 0 || !due(); ++count) {
            if (count > 0) pass(microseconds(9));
            if (count < 12) pacer_.posted();
        }
        pacer_.signalled(clock_.time);
        pacer_.host_looked(0);
        return count;
    }
    StoppedClock clock_;
    InterruptPacer pacer_{clock_, true};
};

TEST_F(Pacer, a_host_with_one_command_at_a_time_hardly_ever_waits) {
    io::Duration waited{0};
    for (int i = 0; i < 1000; ++i)
        waited += one_at_a_time();
    EXPECT_LE(waited, 1000 * microseconds(60) / 200); // half a percent of what its commands take
}

TEST_F(Pacer, a_host_that_goes_on_submitting_is_interrupted_once_a_burst) {
    for (int i = 0; i < 200; ++i)
        burst(); // finds out
    for (int i = 0; i < 10; ++i)
        EXPECT_GE(burst(), 8u);
}

TEST_F(Pacer, a_burst_without_end_is_interrupted_all_the_same) {
    for (int i = 0; i < 200; ++i)
        burst();
    pacer_.posted();
    const auto start = clock_.time;
    for (; !due(); pacer_.posted())
        pass(microseconds(5));
    EXPECT_LE(clock_.time - start, microseconds(105));
}

TEST_F(Pacer, pacing_ends_when_nothing_is_gained) {
    for (int i = 0; i < 200; ++i)
        burst();
    io::Duration waited{0};
    for (int i = 0; i < 100; ++i)
        waited += one_at_a_time();
    EXPECT_LE(waited, microseconds(4 * 20 + 20));
}

TEST_F(Pacer, a_host_that_is_about_to_look_is_left_alone) {
    pacer_.posted();
    ASSERT_TRUE(due());
    pacer_.signalled(clock_.time);
    pacer_.posted();
    EXPECT_FALSE(due());
    pass(microseconds(1999));
    EXPECT_FALSE(due());
    pass(microseconds(1)); // the interrupt seems to be lost
    EXPECT_TRUE(due());
}

TEST_F(Pacer, what_the_host_left_behind_is_told_again) {
    pacer_.posted();
    pacer_.signalled(clock_.time);
    pacer_.host_looked(1);
    EXPECT_TRUE(due());
    pacer_.host_looked(0);
    EXPECT_FALSE(due());
}

TEST(UnpacedPacer, never_waits) {
    StoppedClock clock;
    InterruptPacer pacer(clock, false);
    for (int i = 0; i < 1000; ++i) {
        pacer.posted();
        ASSERT_TRUE(pacer.due(clock.time));
        pacer.signalled(clock.time);
        pacer.host_looked(0);
    }
}

} // namespace
} // namespace lanepool::nvme::model
