// SPDX-License-Identifier: Apache-2.0
#include "ntb/bus_allocator.h"

#include <gtest/gtest.h>
#include <vector>

namespace lanepool::ntb {
namespace {

BusAllocator allocator(uint64_t size_bytes = 1 << 20, size_t max_exports = 100) {
    return BusAllocator(*Range<BusAddress>::create({0x10'0000}, size_bytes), max_exports);
}

TEST(BusAllocator, AlignsToTheSizeAndToTheSlot) {
    auto addresses = allocator();
    EXPECT_EQ(addresses.allocate(100, 4096).value().value, 0x10'0000u);
    EXPECT_EQ(addresses.allocate(5000, 4096).value().value, 0x10'2000u); // 8 KiB blocks
    EXPECT_EQ(addresses.allocate(4096, 4096).value().value, 0x10'4000u);
    EXPECT_EQ(addresses.allocate(4096, 0x8000).value().value, 0x10'8000u);
}

TEST(BusAllocator, NothingElseLiesInASlot) {
    auto addresses = allocator();
    std::vector<Range<BusAddress>> slots;
    for (const uint64_t size : {1ul, 4096ul, 70000ul, 100ul, 16385ul, 8ul}) {
        const auto start = addresses.allocate(size, 16384).value();
        const auto slot =
            *Range<BusAddress>::create({start.value & ~uint64_t{16383}}, (size + 16383) & ~16383ul);
        for (const auto& other : slots)
            EXPECT_FALSE(other.overlaps(slot));
        slots.push_back(slot);
    }
}

TEST(BusAllocator, WhatIsReleasedIsGivenOutAgain) {
    auto addresses = allocator(8192);
    const auto first = addresses.allocate(4096, 4096).value();
    addresses.allocate(4096, 4096).value();
    EXPECT_EQ(addresses.allocate(4096, 4096).error().code(), Errc::no_space);
    addresses.release(first);
    EXPECT_EQ(addresses.allocate(4096, 4096).value(), first);
}

TEST(BusAllocator, WhatIsReleasedStaysEmptyWhileThereIsOtherSpace) {
    auto addresses = allocator(1 << 20);
    const auto kept = addresses.allocate(4096, 4096).value();
    addresses.release(kept);
    for (int i = 0; i < 255; ++i) {
        const auto other = addresses.allocate(4096, 4096).value();
        EXPECT_NE(other, kept);
        addresses.release(other);
    }
    EXPECT_EQ(addresses.allocate(4096, 4096).value(), kept); // once around
}

TEST(BusAllocator, AFixedAddressIsGivenOnce) {
    auto addresses = allocator();
    EXPECT_TRUE(addresses.reserve({0x10'0000}, 4096));
    EXPECT_EQ(addresses.reserve({0x10'0800}, 1).error().code(), Errc::already_exists);
    EXPECT_EQ(addresses.allocate(4096, 4096).value().value, 0x10'1000u);
    EXPECT_EQ(addresses.reserve({~uint64_t{0}}, 2).error().code(), Errc::out_of_range);
}

TEST(BusAllocator, HasALimit) {
    auto addresses = allocator(1 << 20, 2);
    addresses.allocate(1, 4096).value();
    addresses.allocate(1, 4096).value();
    EXPECT_EQ(addresses.allocate(1, 4096).error().code(), Errc::no_space);
}

TEST(BusAllocator, RefusesSizesThatCannotBeAligned) {
    auto addresses = allocator();
    EXPECT_EQ(addresses.allocate(0, 4096).error().code(), Errc::out_of_range);
    EXPECT_EQ(addresses.allocate(~uint64_t{0}, 4096).error().code(), Errc::out_of_range);
    EXPECT_EQ(addresses.allocate(uint64_t{1} << 62, 4096).error().code(), Errc::no_space);
}

} // namespace
} // namespace lanepool::ntb
