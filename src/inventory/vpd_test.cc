// SPDX-License-Identifier: Apache-2.0
#include "inventory/vpd.h"

#include <gtest/gtest.h>

namespace lanepool::inventory {
namespace {

using namespace std::string_literals;

TEST(VitalProductData, HasTitleAndSerialNumber) {
    const auto data = parse_vpd("\x82\x04\0Card"s +
                                "\x90\x0c\0PN\x02xxSN\x04"
                                "1234"s +
                                "\x78"s);
    EXPECT_EQ(data.title, "Card");
    EXPECT_EQ(data.serial, "1234");
}

TEST(VitalProductData, StopsWhereItIsBroken) {
    EXPECT_EQ(parse_vpd("").title, "");
    EXPECT_EQ(parse_vpd(std::string(100, '\xff')).serial, "");
    EXPECT_EQ(parse_vpd("\x82\xff\xff"
                        "Card"s)
                  .title,
              "Card"); // the rest was not read
    EXPECT_EQ(parse_vpd("\x90\x04\0SN\xff"
                        "1"s)
                  .serial,
              "");
    EXPECT_EQ(parse_vpd("\x90\x02\0SN"s).serial, "");
}

} // namespace
} // namespace lanepool::inventory
