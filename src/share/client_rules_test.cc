// SPDX-License-Identifier: Apache-2.0
#include "share/client_rules.h"

#include <gmock/gmock.h>

namespace lanepool::sharing {
namespace {

using testing::HasSubstr;

DriveFacts drive() {
    DriveFacts facts{};
    facts.namespaces = 2;
    facts.space[0] = {1, 512, 1000};
    facts.space[1] = {7, 4096, 1 << 20};
    return facts;
}
ClientRules rules(std::string_view text) {
    auto parsed = ClientRules::parse(text, "clients.toml");
    EXPECT_TRUE(parsed) << parsed.error().message();
    return parsed.value_or(ClientRules());
}
std::string problem(std::string_view text) {
    return ClientRules::parse(text, "clients.toml").error().message();
}

TEST(ClientRules, WithoutAFileEverybodyHasAllOfTheFirstNamespace) {
    const auto grant = ClientRules().decide("a", "ann", drive()).value();
    EXPECT_EQ(grant.part, (Part{1, 0, 1000}));
    EXPECT_EQ(grant.weight, 1);
    EXPECT_FALSE(grant.read_only);
    EXPECT_EQ(grant.most_queues, max_clients);
}

TEST(ClientRules, TheFirstRuleThatFitsDecides) {
    const auto some =
        rules("[[client]]\nhosts='a'\nusers=['ann','bob']\nweight=5\nnamespace=7\nread_only=true\n"
              "first_block=100\nblocks=50\nmost_queues=2\n"
              "[[client]]\nhosts='a'\nusers='*'\nallow=false\n"
              "[[client]]\nhosts='*'\nusers='*'");
    const auto ann = some.decide("a", "ann", drive()).value();
    EXPECT_EQ(ann.part, (Part{7, 100, 50}));
    EXPECT_EQ(ann.weight, 5);
    EXPECT_TRUE(ann.read_only);
    EXPECT_EQ(ann.most_queues, 2u);
    EXPECT_EQ(ann.rule, 1u);
    EXPECT_EQ(some.decide("a", "eve", drive()).error().code(), Errc::permission_denied);
    EXPECT_EQ(some.decide("b", "ann", drive()).value().rule, 3u);
}

TEST(ClientRules, WhoNoRuleIsAboutIsRefused) {
    EXPECT_EQ(rules("").decide("a", "ann", drive()).error().code(), Errc::permission_denied);
    EXPECT_EQ(rules("[[client]]\nhosts='b'\nusers='*'").decide("a", "ann", drive()).error().code(),
              Errc::permission_denied);
}

TEST(ClientRules, APartCanBeGivenInBytes) {
    const auto some = rules("[[client]]\nhosts='*'\nusers='*'\nnamespace=7\noffset='1 GiB'\nsize='8 KiB'");
    EXPECT_EQ(some.decide("a", "ann", drive()).value().part, (Part{7, 1 << 18, 2}));
}

TEST(ClientRules, APartOutsideOfTheDriveIsFoundBeforeAnybodyComes) {
    const auto check = [](std::string_view text) {
        return rules(fmt::format("[[client]]\nhosts='*'\nusers='*'\n{}", text))
            .check(drive())
            .error()
            .message();
    };
    EXPECT_THAT(check("namespace=3"), HasSubstr("client rule 1: the drive has no namespace 3"));
    EXPECT_THAT(check("first_block=1000"), HasSubstr("outside of namespace 1"));
    EXPECT_THAT(check("first_block=999\nblocks=2"), HasSubstr("outside of namespace 1"));
    EXPECT_THAT(check("blocks=9223372036854775807\nfirst_block=5"), HasSubstr("outside"));
    EXPECT_THAT(check("size='700 B'"), HasSubstr("not whole blocks"));
}

TEST(ClientRules, EverythingThatIsWrongIsSaid) {
    EXPECT_THAT(problem("[[client]]\nhosts='*'\nusers='*'\nweight=0\nwieght=1"),
                testing::AllOf(HasSubstr("clients.toml:4:"), HasSubstr("wieght")));
    EXPECT_THAT(problem("[[client]]\nusers='*'"), HasSubstr("hosts"));
    EXPECT_THAT(problem("[[client]]\nhosts='*'\nusers='*'\nblocks=1\nsize='1 KiB'"), HasSubstr("both"));
    EXPECT_THAT(problem("[[client]]\nhosts='*'\nusers='*'\nsize='much'"), HasSubstr("capacity"));
    EXPECT_THAT(problem("[[clients]]"), HasSubstr("clients"));
}

} // namespace
} // namespace lanepool::sharing
