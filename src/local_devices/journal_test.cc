// SPDX-License-Identifier: Apache-2.0
#include "local_devices/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lanepool::local_devices {
namespace {

Journal sample() {
    Member one;
    one.address = {0, 1, 0, 0};
    one.identity = {"0x144d:0xa80a", "0011223344556677"};
    one.driver = "nvme";
    one.reset_method = "flr bus";
    Member other;
    other.address = {0, 1, 0, 1};
    other.driver_override = "vfio-pci";
    return {"boot", {{Group::State::returning, {one.address}, {one, other}}}};
}

TEST(Journal, ComesBackAsItWas) {
    const auto parsed = parse_journal(to_text(sample()));
    ASSERT_TRUE(parsed) << parsed.error().message();
    EXPECT_EQ(parsed->boot, "boot");
    ASSERT_EQ(parsed->groups.size(), 1U);
    const auto& group = parsed->groups[0];
    EXPECT_EQ(group.state, Group::State::returning);
    EXPECT_EQ(group.wanted, sample().groups[0].wanted);
    ASSERT_EQ(group.members.size(), 2U);
    EXPECT_EQ(group.members[0].identity.serial, "0011223344556677");
    EXPECT_EQ(group.members[0].driver, "nvme");
    EXPECT_EQ(group.members[0].reset_method, "flr bus");
    EXPECT_EQ(group.members[1].driver_override, "vfio-pci");
    EXPECT_EQ(group.members[1].reset_method, std::nullopt);
}

TEST(Journal, RefusesWhatItHasNotWritten) {
    const std::string good = to_text(sample());
    const auto with = [&](const std::string& part, const std::string& other) {
        std::string text = good;
        const size_t at = text.find(part);
        EXPECT_NE(at, std::string::npos) << part;
        return text.replace(at, part.size(), other);
    };
    for (const auto& text :
         {std::string(), std::string("[]"), good.substr(0, good.size() / 2),
          with("\"version\": 1", "\"version\": 2"), with("\"boot\": \"boot\"", "\"boot\": 3"),
          with("0000:01:00.0", "nowhere"), with("returning", "wandering"), with("\"nvme\"", "\"../../x\""),
          with("\"nvme\"", "\"a\\nb\""), with("\"nvme\"", "7"), with("\"members\"", "\"numbers\"")})
        EXPECT_EQ(parse_journal(text).error().code(), Errc::protocol) << text;
}

} // namespace
} // namespace lanepool::local_devices
