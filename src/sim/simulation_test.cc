// SPDX-License-Identifier: Apache-2.0
#include "sim/report.h"

#include <gtest/gtest.h>

namespace lanepool::sim {
namespace {

SimOptions small() {
    SimOptions options;
    options.hosts = 40;
    options.loans = 300;
    return options;
}

TEST(Simulation, GoesRightUnderFaults) {
    uint64_t joined = 0;
    for (uint64_t seed = 1; seed <= 24; ++seed) {
        const auto result = simulate(seed, small());
        EXPECT_EQ(result.failure, "") << "seed " << seed;
        EXPECT_GE(result.loans, 300u);
        EXPECT_GT(result.checks, 10'000u);
        joined += result.joined;
    }
    EXPECT_GT(joined, 500u); // devices were shared
}

SimOptions several() {
    SimOptions options = small();
    options.controllers = 3;
    return options;
}

TEST(Simulation, GoesRightWithSeveralControllers) {
    uint64_t elections = 0;
    for (uint64_t seed = 1; seed <= 24; ++seed) {
        const auto result = simulate(seed, several());
        EXPECT_EQ(result.failure, "") << "seed " << seed;
        EXPECT_GE(result.loans, 300u);
        EXPECT_GE(result.elections, 1u);
        elections += result.elections;
    }
    EXPECT_GT(elections, 48u);
}

SimOptions whole() {
    SimOptions options = small();
    options.whole_hosts = true;
    return options;
}

TEST(Simulation, GoesRightWithWholeHosts) {
    Report report(whole());
    for (uint64_t seed = 1; seed <= 24; ++seed) {
        const auto result = simulate(seed, whole());
        EXPECT_EQ(result.failure, "") << "seed " << seed;
        EXPECT_GE(result.loans, 300u);
        report.add(result);
    }
    EXPECT_GT(report.total().taken, 200u);
    EXPECT_GT(report.total().given_back, 50u);
    EXPECT_GT(report.total().functions_lent, 100u);
    EXPECT_GT(report.total().kernels_lent, 500u);
    EXPECT_GT(report.total().stayed, 50u);
}

TEST(Simulation, InjectsEveryKindOfFault) {
    Report report(small());
    for (uint64_t seed = 3; seed <= 80; seed += 4) { // the harshest ones
        report.add(simulate(seed, small()));
        if (seed < 40) report.add(simulate(seed, whole()));
        if (seed < 40) report.add(simulate(seed, several()));
    }
    for (size_t i = 0; i < fault_count; ++i)
        EXPECT_GT(report.total().faults[i], 0u) << name(static_cast<Fault>(i));
    EXPECT_TRUE(report.failures().empty());
}

TEST(Simulation, InjectsNothingIntoAHarmlessSeed) {
    const auto result = simulate(4, small());
    for (size_t i = 0; i < fault_count; ++i)
        EXPECT_EQ(result.faults[i], 0u) << name(static_cast<Fault>(i));
}

TEST(Simulation, DoesTheSameForTheSameSeed) {
    for (const uint64_t seed : {3, 7, 11}) {
        const auto once = simulate(seed, small());
        const auto again = simulate(seed, small());
        EXPECT_EQ(once.digest, again.digest);
        EXPECT_EQ(once.events, again.events);
        EXPECT_EQ(once.faults, again.faults);
    }
    EXPECT_EQ(simulate(3, several()).digest, simulate(3, several()).digest);
    EXPECT_NE(simulate(3, small()).digest, simulate(7, small()).digest);
}

class WithoutProtection : public ::testing::TestWithParam<Protection> {};

// The checks bite: what each protection keeps out is found where it is left out.
TEST_P(WithoutProtection, IsNoticed) {
    SimOptions options = small();
    options.loans = 1000;
    options.without = GetParam();
    if (GetParam() == Protection::store_fencing) options.controllers = 3;
    options.whole_hosts = GetParam() == Protection::own_host;
    for (uint64_t seed = 1; seed <= 40; ++seed) {
        const auto first = simulate(seed, options);
        if (first.failure.empty()) continue;
        EXPECT_EQ(simulate(seed, options).failure, first.failure); // and again exactly so
        return;
    }
    FAIL() << "40 seeds without " << name(GetParam()) << " went right";
}

INSTANTIATE_TEST_SUITE_P(Each, WithoutProtection, ::testing::ValuesIn(protections), [](const auto& each) {
    std::string text(name(each.param));
    std::erase(text, '-');
    return text;
});

TEST(Report, SaysHowToRunASeedAgain) {
    SimOptions options = small();
    options.without = Protection::epoch_check;
    EXPECT_EQ(Report(options).reproduce(7),
              "lanepool sim --seeds 1 --seed 7 --hosts 40 --loans 300 --without epoch-check");
}

} // namespace
} // namespace lanepool::sim
