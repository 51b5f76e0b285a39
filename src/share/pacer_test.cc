// SPDX-License-Identifier: Apache-2.0
#include "share/pacer.h"

#include "share/gate.h"
#include "share/simulated_drive.h"

#include <gmock/gmock.h>
#include <numeric>

namespace lanepool::sharing {
namespace {

constexpr uint64_t warm_up_us = 300'000;
constexpr uint64_t measured_us = 1'000'000;

double sum(const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }

// Jain's index of fairness: 1 where all have the same.
double jain(const std::vector<double>& values) {
    double squares = 0;
    for (const double value : values)
        squares += value * value;
    return sum(values) * sum(values) / (static_cast<double>(values.size()) * squares);
}

std::vector<double> served(const SimulatedDrive::Options& options,
                           const std::vector<SimulatedClient>& clients) {
    SimulatedDrive drive(options, clients);
    drive.run(warm_up_us);
    return drive.run(measured_us);
}
std::vector<double> unpaced(SimulatedDrive::Options options, const std::vector<SimulatedClient>& clients) {
    options.paced = false;
    return served(options, clients);
}

const std::vector<SimulatedClient> unequal_depths = {
    {.depth = 8}, {.depth = 16}, {.depth = 64}, {.depth = 128}};

TEST(Pacer, AFirstInFirstOutDriveAloneIsUnfair) {
    EXPECT_LT(jain(unpaced({}, unequal_depths)), 0.7); // so that the next tests show something
}

TEST(Pacer, EqualWeightsShareEquallyWhateverTheirDepths) {
    const auto shares = served({}, unequal_depths);
    EXPECT_GE(jain(shares), 0.98) << testing::PrintToString(shares);
}

TEST(Pacer, TheTotalIsThatOfNobodyPacing) {
    EXPECT_GE(sum(served({}, unequal_depths)), 0.99 * sum(unpaced({}, unequal_depths)));
}

TEST(Pacer, WeightsAreKept) {
    for (const bool round_robin : {false, true}) {
        const auto shares =
            served({.round_robin = round_robin},
                   {{.weight = 1, .depth = 64}, {.weight = 2, .depth = 32}, {.weight = 5, .depth = 32}});
        const double total = sum(shares);
        EXPECT_NEAR(shares[0] / total * 8, 1, 0.05) << testing::PrintToString(shares);
        EXPECT_NEAR(shares[1] / total * 8 / 2, 1, 0.05) << testing::PrintToString(shares);
        EXPECT_NEAR(shares[2] / total * 8 / 5, 1, 0.05) << testing::PrintToString(shares);
        EXPECT_GE(total, 0.99 * 400 * 1000);
    }
}

TEST(Pacer, LargeTransfersCountAsWhatTheyCost) {
    const auto shares = served({}, {{.depth = 32}, {.depth = 32, .units = 32}});
    EXPECT_GE(jain(shares), 0.98) << testing::PrintToString(shares);
}

TEST(Pacer, ThirtyTwoClientsShareEqually) {
    std::vector<SimulatedClient> clients;
    for (unsigned i = 0; i < 32; ++i)
        clients.push_back({.depth = 4 + i * 4});
    const auto shares = served({}, clients);
    EXPECT_GE(jain(shares), 0.98) << testing::PrintToString(shares);
    EXPECT_GE(sum(shares), 0.98 * sum(unpaced({}, clients)));
}

TEST(Pacer, LateTicksDoNotMakeItUnfair) {
    const auto shares = served({.tick_jitter_us = 5000}, unequal_depths);
    EXPECT_GE(jain(shares), 0.98) << testing::PrintToString(shares);
    EXPECT_GE(sum(shares), 0.97 * sum(unpaced({}, unequal_depths)));
}

// As where the machine has more to do than this.
TEST(Pacer, VeryLateTicksIdleNobody) {
    const auto shares = served({.tick_jitter_us = 30000}, unequal_depths);
    EXPECT_GE(sum(shares), 0.9 * sum(unpaced({}, unequal_depths))) << testing::PrintToString(shares);
    EXPECT_GE(jain(shares), 0.9) << testing::PrintToString(shares);
}

TEST(Pacer, ADriveThatStumblesIsStillShared) {
    const SimulatedDrive::Options stumbling{.tick_jitter_us = 3000, .stalls = 400};
    const auto shares = served(stumbling, unequal_depths);
    EXPECT_GE(jain(shares), 0.95) << testing::PrintToString(shares);
    EXPECT_GE(sum(shares), 0.95 * sum(unpaced(stumbling, unequal_depths)));
}

TEST(Pacer, AfterAPauseAllStartAtOnce) {
    const auto late = [](uint64_t now_us) { return now_us < 200'000 || now_us >= 1'200'000; };
    std::vector<SimulatedClient> clients = unequal_depths;
    for (auto& client : clients)
        client.wants = late;
    SimulatedDrive drive({}, clients);
    drive.run(1'200'000);
    EXPECT_GE(sum(drive.run(20'000)), 0.95 * 400 * 20);
}

TEST(Pacer, ASlowDriveIsFoundOutSoon) {
    const SimulatedDrive::Options slow{.unit_us = 800}; // 10,000 units a second
    EXPECT_GE(jain(served(slow, unequal_depths)), 0.98);
}

TEST(Pacer, ADriveThatBecomesSlowerIsStillShared) {
    SimulatedDrive drive({}, unequal_depths);
    drive.run(warm_up_us);
    drive.set_unit_us(100);
    drive.run(warm_up_us);
    const auto shares = drive.run(measured_us);
    EXPECT_GE(jain(shares), 0.98) << testing::PrintToString(shares);
    EXPECT_GE(sum(shares), 0.95 * 80 * 1000);
    drive.set_unit_us(20);
    drive.run(warm_up_us);
    EXPECT_GE(sum(drive.run(measured_us)), 0.95 * 400 * 1000);
}

TEST(Pacer, OneThatIsAloneIsNeverHeld) {
    SimulatedDrive drive({}, {{.depth = 64}});
    drive.run(warm_up_us);
    EXPECT_EQ(drive.pacer().allowance(0), no_limit);
}

TEST(Pacer, OneWhoseNeighboursSleepIsNotHeldEither) {
    const auto never = [](uint64_t) { return false; };
    SimulatedDrive drive({}, {{.depth = 64}, {.wants = never}});
    drive.run(warm_up_us);
    EXPECT_EQ(drive.pacer().allowance(0), no_limit);
}

// One command at a time, and the drive answers none in less than 20 us: the others get what it leaves.
TEST(Pacer, WhoCannotTakeItsShareDoesNotSlowTheOthers) {
    const std::vector<SimulatedClient> clients = {{.depth = 1}, {.depth = 64}};
    const auto shares = served({}, clients);
    EXPECT_GE(sum(shares), 0.85 * sum(unpaced({}, clients))) << testing::PrintToString(shares);
    // And it has about what it would have alone, because the others leave the drive's queue short.
    const auto alone = served({}, {{.depth = 1}});
    EXPECT_GE(shares[0], 0.8 * alone[0]) << testing::PrintToString(shares);
    EXPECT_GE(shares[0], 4 * unpaced({}, clients)[0]);
}

TEST(Pacer, WhoWantsLittleDoesNotSlowTheOthers) {
    const std::vector<SimulatedClient> clients = {
        {.depth = 4, .pause_us = 500}, {.depth = 64}, {.depth = 16}};
    const auto shares = served({}, clients);
    EXPECT_GE(sum(shares), 0.9 * sum(unpaced({}, clients))) << testing::PrintToString(shares);
    EXPECT_NEAR(shares[1] / shares[2], 1, 0.1) << testing::PrintToString(shares);
}

TEST(Pacer, WhoHasSleptIsServedAtOnceAndGetsNothingBack) {
    const auto later = [](uint64_t now_us) { return now_us >= 500'000; };
    SimulatedDrive drive({}, {{.depth = 32}, {.depth = 32, .wants = later}});
    drive.run(500'000);
    drive.run(50'000); // the change
    const auto shares = drive.run(measured_us);
    EXPECT_GE(jain(shares), 0.98) << testing::PrintToString(shares);
}

TEST(Pacer, OneThatLeavesLeavesItsShare) {
    SimulatedDrive drive({}, unequal_depths);
    drive.run(warm_up_us);
    for (uint32_t slot = 1; slot < 4; ++slot)
        drive.pacer().remove(slot);
    drive.run(20'000);
    EXPECT_EQ(drive.pacer().allowance(0), no_limit);
}

TEST(Pacer, NonsenseFromOneClientHoldsNobodyForLong) {
    Pacer pacer;
    pacer.add(0, 1, {});
    pacer.add(1, 1, {});
    Pacer::Counters honest;
    for (uint64_t i = 1; i < 2000; ++i) {
        honest.submitted = std::min(honest.submitted + 100, pacer.allowance(0));
        honest.completed = honest.submitted;
        ++honest.held;
        pacer.update(0, honest);
        // Goes back and forth, and never completes anything.
        pacer.update(1, {.submitted = i % 2 ? ~uint64_t{0} : 0, .completed = i, .held = i});
        pacer.tick(std::chrono::milliseconds(1));
    }
    EXPECT_GT(honest.submitted, 100'000u);
}

TEST(Gate, AnAllowanceIsSpreadOverItsInterval) {
    using std::chrono::microseconds;
    Gate gate;
    io::TimePoint now{};
    EXPECT_FALSE(gate.limited());
    for (int i = 0; i < 50; ++i)
        gate.open(100, now += microseconds(1000));
    EXPECT_EQ(gate.allowed(now), 100u);
    gate.open(200, now += microseconds(1000));
    EXPECT_EQ(gate.allowed(now), 100u);
    EXPECT_NEAR(static_cast<double>(gate.allowed(now + microseconds(500))), 150, 2);
    EXPECT_EQ(gate.allowed(now + microseconds(5000)), 200u);
    gate.open(150, now += microseconds(5000)); // less than before: at once
    EXPECT_EQ(gate.allowed(now), 150u);
    gate.open(no_limit, now += microseconds(1000));
    EXPECT_FALSE(gate.limited());
}

} // namespace
} // namespace lanepool::sharing
