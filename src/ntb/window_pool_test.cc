// SPDX-License-Identifier: Apache-2.0
#include "ntb/window_pool.h"

#include <gtest/gtest.h>

namespace lanepool::ntb {
namespace {

constexpr uint64_t mib = uint64_t{1} << 20;
constexpr uint64_t gib = uint64_t{1} << 30;
constexpr Partition peer{3};

WindowPool two_bars() {
    const std::vector<WindowBar> bars = {{2, 64 * mib}, {4, 256 * gib}};
    return WindowPool(plan_windows(bars, 512));
}

TEST(WindowPlan, TheLargestBarGetsFewLargeWindowsAndTheOtherManySmallOnes) {
    const std::vector<WindowBar> bars = {{2, 64 * mib}, {4, 256 * gib}};
    const auto plan = plan_windows(bars, 512);
    ASSERT_EQ(plan.size(), 2u);
    EXPECT_EQ(plan[0].entries, 448u);
    EXPECT_EQ(plan[0].entry_bytes(), 64u * 1024);
    EXPECT_EQ(plan[0].first_entry, 0u);
    EXPECT_EQ(plan[1].entries, 64u);
    EXPECT_EQ(plan[1].entry_bytes(), 2 * gib);
    EXPECT_EQ(plan[1].first_entry, 448u);
    EXPECT_EQ(plan[1].direct_bytes(), 128 * gib);
}

TEST(WindowPlan, ACardWithOneSmallBarUsesHalfOfItForLutWindows) {
    const std::vector<WindowBar> bars = {{2, 16 * mib}};
    const auto plan = plan_windows(bars, 512);
    ASSERT_EQ(plan.size(), 1u);
    EXPECT_EQ(plan[0].entries, 512u);
    EXPECT_EQ(plan[0].entry_bytes(), 16u * 1024);
    EXPECT_EQ(plan[0].direct_offset, 8 * mib);
    EXPECT_EQ(plan[0].direct_bytes(), 8 * mib);
}

// Whatever a card has: windows lie inside their BAR, the table is not exceeded, places agree with sizes.
TEST(WindowPlan, AlwaysFitsTheBarsAndTheTable) {
    for (const unsigned lut : {0u, 1u, 3u, 15u, 16u, 511u, 512u, 4096u})
        for (uint64_t size = 4096; size <= uint64_t{1} << 45; size *= 2) {
            const std::vector<WindowBar> bars = {{1, 8192}, {2, size}, {4, size / 2}};
            unsigned entries = 0;
            const auto plan = plan_windows(bars, lut);
            for (size_t i = 0; i < plan.size(); ++i) {
                EXPECT_EQ(plan[i].first_entry, entries);
                entries += plan[i].entries;
                EXPECT_LE((uint64_t{plan[i].entries} << plan[i].entry_log2), plan[i].direct_offset);
                EXPECT_LE(plan[i].direct_offset + plan[i].direct_bytes(), bars[i].size_bytes);
                if (plan[i].direct_log2 != 0) {
                    EXPECT_EQ(plan[i].direct_offset % plan[i].direct_bytes(), 0u);
                }
                if (plan[i].entries > 0) {
                    EXPECT_GE(plan[i].entry_log2, 12u);
                }
            }
            EXPECT_LE(entries, std::min(lut, 512u));
        }
}

TEST(WindowPool, ASmallTargetTakesASmallSlot) {
    auto pool = two_bars();
    const Target target{peer, {0x1'0000'2000}, 0x1000};
    const auto placed = pool.allocate({&target, 1}).value();
    EXPECT_EQ(placed[0].slot, 2u);
    EXPECT_EQ(placed[0].count, 1u);
    EXPECT_EQ(placed[0].base, BusAddress{0x1'0000'0000});
    EXPECT_EQ(placed[0].offset_bytes, 0x2000u);
    EXPECT_EQ(pool.windows_free(), pool.windows() - 1);
}

TEST(WindowPool, ATargetLargerThanAnEntryTakesConsecutiveOnes) {
    auto pool = two_bars();
    const Target target{peer, {0x1'0000'0000}, 256 * 1024};
    const auto placed = pool.allocate({&target, 1}).value();
    EXPECT_EQ(placed[0].slot, 2u);
    EXPECT_EQ(placed[0].count, 4u);
}

TEST(WindowPool, GuestMemoryTakesALargeSlot) {
    auto pool = two_bars();
    const Target target{peer, {8 * gib}, 511 * mib};
    const auto placed = pool.allocate({&target, 1}).value();
    EXPECT_EQ(placed[0].slot, 4u);
    EXPECT_EQ(placed[0].count, 1u);
    EXPECT_EQ(placed[0].table_entry, 448u);
}

// A whole host's firmware places BARs of a few GiB: the RAM of several guests fits, in the pieces that a PC
// has it in.
TEST(WindowPool, RamOfSeveralGuestsInABarOfFourGiB) {
    const std::vector<WindowBar> bars = {{2, 64 * mib}, {4, 4 * gib}};
    WindowPool pool(plan_windows(bars, 512));
    EXPECT_GE(pool.largest_window_bytes(), 2 * gib);
    uint64_t address = 4 * gib;
    std::vector<Placement> kept;
    for (const uint64_t ram : {512 * mib, 512 * mib, 256 * mib, 128 * mib, 128 * mib})
        for (const uint64_t piece : {uint64_t{0xa0000}, uint64_t{0x40000}, ram - mib}) {
            const Target target{peer, {address}, piece};
            const auto placed = pool.allocate({&target, 1});
            ASSERT_TRUE(placed) << ram / mib << " MiB: " << placed.error().message();
            kept.push_back(placed->front());
            address += gib;
        }
    const Target more{peer, {address}, gib};
    const auto direct = pool.allocate({&more, 1}).value();
    EXPECT_TRUE(direct[0].direct);
    const auto refused = pool.allocate({&more, 1});
    EXPECT_EQ(refused.error().code(), Errc::no_space);
    EXPECT_NE(refused.error().message().find("of 64 with 32768 KiB each"), std::string::npos)
        << refused.error().message();
}

TEST(WindowPool, WhatIsTooLargeForLutWindowsTakesTheDirectWindow) {
    const std::vector<WindowBar> bars = {{2, 16 * mib}};
    WindowPool pool(plan_windows(bars, 4)); // 4 x 2 MiB and 8 MiB
    const std::vector<Target> targets = {{peer, {64 * mib}, 4 * mib}, {peer, {128 * mib}, 7 * mib + 1}};
    const auto placed = pool.allocate(targets).value();
    // The larger one is placed first; both use everything of their kind, so the first that fits wins.
    EXPECT_NE(placed[0].direct, placed[1].direct);
    const auto& direct = placed[0].direct ? placed[0] : placed[1];
    EXPECT_EQ(direct.offset_bytes, 8 * mib);
    EXPECT_EQ(direct.window_bytes % 4096, 0u);
}

TEST(WindowPool, ADirectWindowKeepsTheTargetsOffsetInTheTranslation) {
    const std::vector<WindowBar> bars = {{2, 16 * mib}};
    WindowPool pool(plan_windows(bars, 0)); // only a direct window, of 16 MiB
    const Target target{peer, {64 * mib + 3 * mib + 0x123}, mib};
    const auto placed = pool.allocate({&target, 1}).value();
    EXPECT_TRUE(placed[0].direct);
    EXPECT_EQ(placed[0].base.value % (uint64_t{1} << placed[0].size_log2), 0u);
    EXPECT_EQ(placed[0].base.value + placed[0].offset_bytes, target.address.value);
    EXPECT_GE(placed[0].window_bytes, placed[0].offset_bytes + target.size_bytes);
    EXPECT_LE(placed[0].window_bytes, uint64_t{1} << placed[0].size_log2);
}

// A host's own kernel takes a window for a BAR only where a BAR could lie: at a multiple of its size.
TEST(WindowPool, ATargetThatLiesAsABarDoesLiesSoInTheBar) {
    const std::vector<std::vector<WindowBar>> cards = {{{2, 64 * mib}, {4, 256 * gib}},
                                                       {{2, 64 * mib}, {4, 4 * gib}},
                                                       {{0, 256 * mib}},
                                                       {{2, mib}, {4, 128 * mib}}};
    for (const auto& bars : cards)
        for (const unsigned lut_entries : {0u, 32u, 500u, 512u}) {
            WindowPool pool(plan_windows(bars, lut_entries));
            std::vector<Placement> kept;
            uint64_t address = 4 * gib;
            int placed_in_all = 0;
            for (int round = 0; round < 3; ++round) {
                for (uint64_t size = 4096; size <= 64 * mib; size *= 2) {
                    address = (address + size - 1) / size * size;
                    const Target target{peer, {address}, size};
                    const Target odd{peer, {address + 4096}, 5 * size / 4 / 4096 * 4096 + 4096};
                    address += 4 * size;
                    if (auto placed = pool.allocate({&target, 1})) {
                        EXPECT_EQ(placed->front().offset_bytes % size, 0u)
                            << size << " bytes, " << lut_entries << " entries, BAR " << placed->front().slot;
                        kept.push_back(placed->front());
                        ++placed_in_all;
                    }
                    // Others are in between, and go: nothing is free from the start of a BAR on.
                    if (auto placed = pool.allocate({&odd, 1}); placed && round == 0)
                        kept.push_back(placed->front());
                    else if (placed)
                        pool.release(placed->front());
                }
                if (kept.empty()) break;
                pool.release(kept[kept.size() / 2]);
                kept.erase(kept.begin() + static_cast<std::ptrdiff_t>(kept.size() / 2));
            }
            EXPECT_GT(placed_in_all, 0);
        }
}

TEST(WindowPool, MemoryLiesElsewhereRatherThanNowhere) {
    const std::vector<WindowBar> bars = {{2, 16 * mib}};
    WindowPool pool(plan_windows(bars, 4)); // 4 x 2 MiB and 8 MiB
    const std::vector<Target> small(4, Target{peer, {gib}, 2 * mib});
    const auto placed = pool.allocate(small).value();
    const Target large{peer, {2 * gib}, 8 * mib};
    ASSERT_TRUE(pool.allocate({&large, 1}).value().front().direct);
    pool.release(placed[1]);
    pool.release(placed[2]);
    const Target target{peer, {4 * gib}, 4 * mib};
    EXPECT_EQ(pool.allocate({&target, 1}).value().front().offset_bytes, 2 * mib);
}

TEST(WindowPool, ReleasedSlotsCanBeUsedAgain) {
    auto pool = two_bars();
    for (int round = 0; round < 1000; ++round) {
        const std::vector<Target> targets = {
            {peer, {0}, 4096}, {peer, {8 * gib}, gib}, {peer, {64 * gib}, 40 * gib}};
        const auto placed = pool.allocate(targets).value();
        for (const auto& placement : placed)
            pool.release(placement);
    }
    EXPECT_EQ(pool.windows_free(), pool.windows());
}

TEST(WindowPool, ABatchThatDoesNotFitTakesNothingAndSaysWhatThereIs) {
    auto pool = two_bars();
    std::vector<Target> targets(600, Target{peer, {0}, 16 * 1024});
    const auto placed = pool.allocate(targets);
    ASSERT_FALSE(placed);
    EXPECT_EQ(placed.error().code(), Errc::no_space);
    EXPECT_NE(placed.error().message().find("0 of 514 windows are free"), std::string::npos)
        << placed.error().message();
    EXPECT_EQ(pool.windows_free(), pool.windows());
}

TEST(WindowPool, RefusesTargetsThatAreNoRange) {
    auto pool = two_bars();
    for (const Target& target : {Target{peer, {0}, 0}, Target{peer, {~uint64_t{0}}, 2}}) {
        const auto placed = pool.allocate({&target, 1});
        ASSERT_FALSE(placed);
        EXPECT_EQ(placed.error().code(), Errc::out_of_range);
    }
    const Target last{peer, {~uint64_t{0} - 4095}, 4096};
    EXPECT_TRUE(pool.allocate({&last, 1}));
}

} // namespace
} // namespace lanepool::ntb
