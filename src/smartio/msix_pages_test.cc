// SPDX-License-Identifier: Apache-2.0
#include "smartio/msix_pages.h"

#include "smartio/config_image_for_test.h"

#include <gtest/gtest.h>

namespace lanepool::smartio {
namespace {

using Areas = std::vector<std::pair<uint64_t, uint64_t>>;

struct MsixPages : testing::Test {
    std::vector<std::byte> config = test::sample_config(); // 33 vectors
    void put(uint32_t table, uint32_t pending) {
        pci::set32(config, test::at::msix + 4, table);
        pci::set32(config, test::at::msix + 8, pending);
    }
    Areas of(unsigned bar, uint64_t bar_bytes) {
        Areas result;
        const auto areas = without_msix_pages(config, bar, bar_bytes).value();
        for (const auto& area : areas)
            result.emplace_back(area.offset_bytes, area.size_bytes);
        return result;
    }
};

TEST_F(MsixPages, TableAndPendingBitsInOneBarWithRegisters) {
    put(0x2000, 0x3000);
    EXPECT_EQ(of(0, 0x4000), (Areas{{0, 0x2000}}));
    EXPECT_EQ(of(3, 0x1000), (Areas{{0, 0x1000}}));
}

TEST_F(MsixPages, InTheMiddle) {
    put(0x1000, 0x1800);
    EXPECT_EQ(of(0, 0x4000), (Areas{{0, 0x1000}, {0x2000, 0x2000}}));
}

TEST_F(MsixPages, PendingBitsBeforeTheTableAndInAnotherBar) {
    put(0x3000, 0x1000);
    EXPECT_EQ(of(0, 0x4000), (Areas{{0, 0x1000}, {0x2000, 0x1000}}));
    put(0x3000, 0x0003);
    EXPECT_EQ(of(0, 0x4000), (Areas{{0, 0x3000}}));
    EXPECT_EQ(of(3, 0x1000), Areas{});
}

TEST_F(MsixPages, ATableOverSeveralPages) {
    pci::set16(config, test::at::msix + 2, 0x07ff); // 2048 vectors: 32 KiB
    put(0x0001, 0x8001);
    EXPECT_EQ(of(1, 0x10000), (Areas{{0x9000, 0x7000}}));
}

TEST_F(MsixPages, LiesOfTheDevice) {
    put(0xffff'fff8, 0xffff'f000);
    EXPECT_EQ(of(0, 0x4000), (Areas{{0, 0x4000}}));
    put(0x3000, 0x3000);
    EXPECT_EQ(of(0, 0x100), (Areas{{0, 0x100}}));
    config[test::at::msix + 1] = std::byte{0xf8};
    config[0xf8] = std::byte{static_cast<uint8_t>(pci::Capability::msix)};
    EXPECT_FALSE(without_msix_pages(config, 0, 0x4000));
}

TEST_F(MsixPages, NoMsix) {
    config[test::at::power_management + 1] = std::byte{test::at::msi};
    EXPECT_EQ(of(0, 0x4000), (Areas{{0, 0x4000}}));
}

} // namespace
} // namespace lanepool::smartio
