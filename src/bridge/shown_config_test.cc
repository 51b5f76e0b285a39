// SPDX-License-Identifier: Apache-2.0
#include "bridge/shown_config.h"

#include "smartio/config_image_for_test.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lanepool::bridge {
namespace {

namespace at = smartio::test::at;
using Vectors = ShownConfig::Vectors;

DeviceConfig sample(std::span<const std::byte> config) {
    return {config, {16384, 0, 256, 4096, 0, 0}, 32, 32, false};
}

TEST(ShownConfig, KeepsTheIdentity) {
    const auto config = smartio::test::sample_config();
    const auto shown = shown_config(sample(config));
    ASSERT_TRUE(shown) << shown.error().message();
    EXPECT_EQ(pci::get32(shown->config.values, 0), pci::get32(config, 0));
    EXPECT_EQ(pci::get32(shown->config.values, 8), pci::get32(config, 8));
}

} // namespace
} // namespace lanepool::bridge
