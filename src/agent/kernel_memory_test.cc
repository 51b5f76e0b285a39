// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel_memory.h"

#include <gtest/gtest.h>

namespace lanepool::agent {
namespace {

using bridge::DmaMode;

constexpr uint64_t mib = 1 << 20;
constexpr uint64_t most = 1 << 30;

TEST(KernelMemory, PoolsAreAsLargeAsTheirDevicesNeed) {
    EXPECT_EQ(dma_size(DmaMode::bounce, 0x010802, most).bytes, 8 * mib);
    EXPECT_EQ(dma_size(DmaMode::bounce, 0x020000, most).bytes, 8 * mib);
    EXPECT_EQ(dma_size(DmaMode::bounce, 0x030200, most).bytes, 32 * mib);
    EXPECT_EQ(dma_size(DmaMode::bounce, 0x120000, most).bytes, 32 * mib);
    EXPECT_EQ(dma_size(DmaMode::bounce, 0x010601, most).bytes, 4 * mib);
    EXPECT_EQ(dma_size(DmaMode::bounce, 0x030200, 16 * mib).bytes, 16 * mib);
}

TEST(KernelMemory, PoolsAreHalvedDownToOneMebibyte) {
    auto size = std::optional(dma_size(DmaMode::bounce, 0x010802, most));
    int halves = 0;
    while ((size = size->half()))
        ++halves;
    EXPECT_EQ(halves, 3);
}

TEST(KernelMemory, AddressesForAnIommuAreHalvedDownTo64Mebibytes) {
    auto size = std::optional(dma_size(DmaMode::iommu, 0x010802, most));
    EXPECT_EQ(size->bytes, 512 * mib);
    uint64_t last = 0;
    for (; size; size = size->half())
        last = size->bytes;
    EXPECT_EQ(last, 64 * mib);
}

TEST(KernelMemory, AllOrNothingIsNotHalved) { EXPECT_FALSE((DmaSize{most, most}.half())); }

// 28 address lines are what the oldest devices have, 32 many.
TEST(KernelMemory, DevicesSeeItAsLowAsItFits) {
    EXPECT_EQ(dma_base(32 * mib).value, 16 * mib);
    EXPECT_EQ(dma_base(512 * mib).value, 16 * mib);
    EXPECT_EQ(dma_base(0xfee00000 - 16 * mib).value, 16 * mib);
    EXPECT_EQ(dma_base(0xfee00000 - 16 * mib + 1).value, uint64_t{1} << 32);
}

} // namespace
} // namespace lanepool::agent
