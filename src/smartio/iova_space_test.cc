// SPDX-License-Identifier: Apache-2.0
#include "smartio/iova_space.h"

#include <gtest/gtest.h>
#include <vector>

namespace lanepool::smartio {
namespace {

constexpr uint64_t gib = uint64_t{1} << 30;
constexpr uint64_t mib = uint64_t{1} << 20;
Range<Iova> range(uint64_t start, uint64_t size) { return *Range<Iova>::create({start}, size); }

TEST(IovaSpace, PlacesAreAlignedAndNeverNeighbours) {
    IovaSpace space;
    const auto small = space.allocate(1).value();
    const auto page = space.allocate(4096).value();
    const auto large = space.allocate(3 * mib).value();
    EXPECT_EQ(small.start().value, 4 * gib);
    EXPECT_EQ(small.size_bytes(), 1u);
    EXPECT_EQ(page.start().value, 4 * gib + 0x2000);
    EXPECT_EQ(large.start().value % (2 * mib), 0u);
    EXPECT_GT(large.start(), page.last());
    EXPECT_EQ(space.ranges(), 3u);
}

TEST(IovaSpace, WhatWasTakenAwayStaysEmptyForAsLongAsCanBe) {
    IovaSpace space;
    const auto first = space.allocate(4096).value();
    space.release(first.start());
    EXPECT_NE(space.allocate(4096).value(), first);
    const uint64_t half = (uint64_t{1} << 38);
    const auto high = space.allocate(half).value();
    space.release(high.start());
    const auto next = space.allocate(half - 5 * gib).value();
    EXPECT_GT(next.start(), high.last());
    // Until everything else has been used.
    space.release(next.start());
    EXPECT_EQ(space.allocate(half - 3 * gib).value().start(), high.start());
}

TEST(IovaSpace, WhatABorrowerHasChosenIsNotUsed) {
    IovaSpace space;
    EXPECT_TRUE(space.reserve(range(4 * gib + 4096, 4096)));
    EXPECT_EQ(space.allocate(8192).value().start().value,
              4 * gib + 8192); // with a page behind: not before it
    EXPECT_EQ(space.reserve(range(4 * gib + 8191, 1)).error().code(), Errc::already_exists);
    EXPECT_EQ(space.reserve(range(0, ~uint64_t{0})).error().code(), Errc::already_exists);
    EXPECT_EQ(space.reserve(range(4 * gib + 8192 + 4096, 1)).error().code(), Errc::already_exists);
    EXPECT_TRUE(space.reserve(range(0, 4096)));
    EXPECT_TRUE(space.reserve(range(~uint64_t{4095}, 4096)));
    space.release({4 * gib + 4096});
    EXPECT_TRUE(space.reserve(range(4 * gib + 4096, 4096)));
}

TEST(IovaSpace, NoPlaceIsAnError) {
    IovaSpace space;
    EXPECT_EQ(space.allocate(0).error().code(), Errc::out_of_range);
    EXPECT_EQ(space.allocate(~uint64_t{0}).error().code(), Errc::out_of_range);
    EXPECT_EQ(space.allocate((uint64_t{1} << 39) - 4 * gib).error().code(),
              Errc::no_space); // no page behind it
    EXPECT_TRUE(space.reserve(range(4 * gib, (uint64_t{1} << 39) - 4 * gib)));
    EXPECT_EQ(space.allocate(4096).error().code(), Errc::no_space);
    space.release({4 * gib});
    EXPECT_TRUE(space.reserve(range(4 * gib, ~uint64_t{0} - 4 * gib)));
    EXPECT_EQ(space.allocate(4096).error().code(), Errc::no_space);
}

} // namespace
} // namespace lanepool::smartio
