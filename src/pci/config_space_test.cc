// SPDX-License-Identifier: Apache-2.0
#include "pci/config_space.h"

#include <array>
#include <gtest/gtest.h>

namespace lanepool::pci {
namespace {

std::array<std::byte, extended_config_bytes>
with_list(std::initializer_list<std::pair<uint8_t, uint8_t>> links) {
    std::array<std::byte, extended_config_bytes> config{};
    set16(config, config::status, status::capabilities_list);
    uint16_t pointer = config::capabilities;
    for (const auto& [offset, id] : links) {
        config[pointer] = std::byte{offset};
        config[offset] = std::byte{id};
        pointer = static_cast<uint16_t>(offset + 1);
    }
    return config;
}

TEST(Capabilities, FollowsTheChain) {
    const auto config = with_list({{0x40, 1}, {0x80, 5}, {0x50, 0x10}});
    const auto entries = capabilities(config);
    ASSERT_EQ(entries->size(), 3u);
    EXPECT_EQ((*entries)[1].id, 5);
    EXPECT_EQ((*entries)[1].previous, 0x41);
    EXPECT_EQ((*entries)[2].next, 0);
}

TEST(Capabilities, NoListBitMeansNone) {
    auto config = with_list({{0x40, 1}});
    set16(config, config::status, 0);
    EXPECT_TRUE(capabilities(config)->empty());
}

TEST(Capabilities, ALoopIsAnError) {
    auto config = with_list({{0x40, 1}, {0x50, 5}});
    config[0x51] = std::byte{0x40};
    EXPECT_EQ(capabilities(config).error().code(), Errc::protocol);
}

TEST(Capabilities, APointerIntoTheHeaderIsAnError) {
    auto config = with_list({{0x40, 1}});
    config[0x41] = std::byte{0x10};
    EXPECT_EQ(capabilities(config).error().code(), Errc::protocol);
}

TEST(Capabilities, AWalkKeepsWhatStandsBeforeTheBreak) {
    auto config = with_list({{0x40, 1}, {0x50, 5}});
    config[0x51] = std::byte{0x10};
    std::vector<CapabilityEntry> entries;
    EXPECT_EQ(walk_capabilities(config, entries).error().code(), Errc::protocol);
    ASSERT_EQ(entries.size(), 2u);
    EXPECT_EQ(entries[1].offset, 0x50);
}

TEST(ExtendedCapabilities, FollowsTheChainAndStopsLoops) {
    std::array<std::byte, extended_config_bytes> config{};
    set32(config, 0x100, 0x0003u | 1u << 16 | 0x140u << 20);
    set32(config, 0x140, 0x0010u | 1u << 16);
    EXPECT_EQ(extended_capabilities(config)->size(), 2u);
    set32(config, 0x140, 0x0010u | 1u << 16 | 0x100u << 20);
    EXPECT_EQ(extended_capabilities(config).error().code(), Errc::protocol);
    set32(config, 0x140, 0x0010u | 1u << 16 | 0x0fcu << 20);
    EXPECT_EQ(extended_capabilities(config).error().code(), Errc::protocol);
}

} // namespace
} // namespace lanepool::pci
