// SPDX-License-Identifier: Apache-2.0
#include "pci/address.h"

#include <gtest/gtest.h>

namespace lanepool::pci {
namespace {

TEST(Address, IsReadAsLinuxWritesIt) {
    const auto address = parse_address("0001:3b:1f.7");
    ASSERT_TRUE(address);
    EXPECT_EQ(*address, (Address{1, 0x3b, 0x1f, 7}));
    EXPECT_EQ(to_string(*address), "0001:3b:1f.7");
    EXPECT_EQ(requester_of(*address).value, 0x3bff);
}

TEST(Address, WithoutADomainIsInDomain0) {
    const auto address = parse_address("3b:00.1");
    ASSERT_TRUE(address);
    EXPECT_EQ(to_string(*address), "0000:3b:00.1");
}

// Linux numbers host bridges that firmware does not know from 0x10000 on.
TEST(Address, OfAHostBridgeThatOnlyLinuxKnowsHasALongerDomain) {
    const auto address = parse_address("1ff00:00:00.0");
    ASSERT_TRUE(address);
    EXPECT_EQ(address->domain, 0x1ff00u);
    EXPECT_EQ(to_string(*address), "1ff00:00:00.0");
}

TEST(Address, RefusesEverythingElse) {
    for (const char* text : {"", "3b", "3b:00", "3b:00.8", "3b:20.0", "0000:3b:00.1 ", " 0000:3b:00.1",
                             "0000:3b:00,1", "0x00:3b:00.1", "-000:3b:00.1", "00000:3b:00.1", "0ffff:3b:00.1",
                             "100000000:3b:00.1", "000:3b:00.1"})
        EXPECT_FALSE(parse_address(text)) << text;
}

} // namespace
} // namespace lanepool::pci
