// SPDX-License-Identifier: Apache-2.0
#include "site/document.h"
#include "site/test_site.h"

#include <fstream>
#include <gmock/gmock.h>
#include <sstream>

namespace lanepool::site {
namespace {

using pool::Site;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(SiteFile, TheExampleInTheDocumentationIsGood) {
    std::ifstream file(LANEPOOL_DOCS "/site.toml");
    std::stringstream text;
    text << file.rdbuf();
    const auto site = parse(text.str(), "docs/site.toml");
    ASSERT_TRUE(site.has_value()) << site.error().message();
    EXPECT_EQ(site->rules.size(), 4U);
    EXPECT_EQ(site->reservations.size(), 3U);
}

TEST(SiteFile, AnEmptyFileIsASiteInWhichEverythingIsAllowed) { EXPECT_EQ(*parse("", "f"), Site()); }

TEST(SiteFile, ReadsATenant) {
    const auto site = parse("[[tenant]]\nname = \"red\"\nshare = 7\nmost_loans = 3", "f");
    EXPECT_THAT(site->tenants, ElementsAre(pool::Tenant{"red", 7, 3}));
}

TEST(SiteFile, ReadsUsersWithTheirRoles) {
    const auto site = parse(
        "[[user]]\nname='a'\n[[user]]\nname='b'\nrole='operator'\n[[user]]\nname='c'\nrole='admin'", "f");
    EXPECT_THAT(site->users,
                ElementsAre(pool::User{"a", "", pool::Role::user}, pool::User{"b", "", pool::Role::operator_},
                            pool::User{"c", "", pool::Role::admin}));
}

TEST(SiteFile, ReadsAHost) {
    const auto site =
        parse("[[host]]\nname='h'\nlocation=['row 1','rack 2']\nlends=false\nborrows=true", "f");
    EXPECT_THAT(site->hosts, ElementsAre(pool::HostRule{"h", {"row 1", "rack 2"}, false, true}));
}

TEST(SiteFile, ReadsAClassWithEveryKeyOfASelector) {
    const auto site =
        good("[class.x]\nany=[{device='store/d', kind='gpu', host='store', model='A 100', vendor_id=0x10de, "
             "device_id=0x20b5, least='80 GiB'}, {device='08000F'}]");
    pool::Selector first{"store/d", "gpu", "store", "A 100", 0x10de, 0x20b5, uint64_t{80} << 30};
    pool::Selector second;
    second.device = "8000f";
    ASSERT_EQ(site.classes.size(), 4U);
    EXPECT_EQ(site.classes.back().name, "x");
    EXPECT_THAT(site.classes.back().any_of, ElementsAre(first, second));
}

TEST(SiteFile, ReadsEveryKeyOfARule) {
    const auto site = good(
        "[[rule]]\nname='r'\ntenants=['red','blue']\nusers='rose'\nhosts='desk'\nclasses=['large']\nlongest='"
        "2d'\n"
        "default='1h30m'\nmost_loans=4\npriority=-5\nhighest_priority=9\npreempts=true\npreemptible=true\n"
        "grace='0s'\nsanitize=false\nneeds_iommu=true\nneeds_qualification=true\ndma=['direct','bounce']");
    const pool::Rule expected{"r",       {"red", "blue"},
                              {"rose"},  {"desk"},
                              {"large"}, true,
                              172800,    5400,
                              4,         -5,
                              9,         true,
                              true,      0,
                              false,     true,
                              true,      {pool::DmaMode::direct, pool::DmaMode::bounce}};
    EXPECT_THAT(site.rules, ElementsAre(expected));
}

TEST(SiteFile, AStarIsEverybodyAndEverything) {
    const auto rule = good(open_rule("")).rules.at(0);
    EXPECT_THAT(rule.tenants, IsEmpty());
    EXPECT_THAT(rule.users, IsEmpty());
    EXPECT_THAT(rule.hosts, IsEmpty());
    EXPECT_THAT(rule.classes, IsEmpty());
}

TEST(SiteFile, ALoanOfARuleWithALongestTimeHasADueTimeByDefault) {
    EXPECT_EQ(good(open_rule("longest='8h'")).rules.at(0).default_s, 8 * 3600);
}

TEST(SiteFile, TheHighestPriorityIsThePriorityByDefault) {
    EXPECT_EQ(good(open_rule("priority=30")).rules.at(0).highest_priority, 30);
}

TEST(SiteFile, NobodyExposesAllMemoryUnlessARuleSaysSo) {
    EXPECT_THAT(good(open_rule("")).rules.at(0).dma,
                ElementsAre(pool::DmaMode::bounce, pool::DmaMode::iommu));
}

TEST(SiteFile, ReadsAFailure) {
    const auto site =
        good("[[failure]]\nclasses='large'\non_borrower_crash='wait'\nwait='10m'\non_missed_due='reclaim'\n"
             "on_failed_reset='retry'\nreset_retries=3");
    EXPECT_THAT(site.failures, ElementsAre(pool::FailureRule{{"large"},
                                                             pool::OnBorrowerCrash::wait,
                                                             600,
                                                             pool::OnMissedDue::reclaim,
                                                             pool::OnFailedReset::retry,
                                                             3}));
}

TEST(SiteFile, ReadsAWeeklyReservation) {
    const auto site =
        good(reservation("class='large'\ncount=5\ncalendar='weekdays 18:00-06:00'\nutc_offset='+01:00'"));
    EXPECT_THAT(site.reservations,
                ElementsAre(pool::Reservation{
                    "n", "red", "large", 5, pool::Calendar{0x1f, 18 * 3600, 12 * 3600, 3600}, std::nullopt}));
}

TEST(SiteFile, ReadsAReservationOnceWithItsOffset) {
    const auto site =
        good(reservation("class='large'\nfrom=2026-12-01T08:00:00Z\nuntil=2026-12-01T10:00:00.5+01:00"));
    const pool::Interval expected{1'796'112'000'000'000, 1'796'112'000'000'000 + 3'600'500'000};
    EXPECT_EQ(site.reservations.at(0).once, expected);
}

TEST(SiteFile, ReadsWhenToWarn) { EXPECT_EQ(good("").warn_before_due_s, 300); }

TEST(SiteFile, ReadsWhenElseToWarn) {
    EXPECT_EQ(parse("warn_before_due = '1h'", "f")->warn_before_due_s, 3600);
}

TEST(SiteFile, AProblemNamesFileLineAndColumn) {
    const auto site = parse("[[tenant]]\nname = \"red\"\nshare = 0\n", "etc/site.toml");
    ASSERT_FALSE(site.has_value());
    EXPECT_EQ(site.error().code(), Errc::invalid_argument);
    EXPECT_EQ(site.error().message(),
              "etc/site.toml:3:9: tenant 'red': share is 0; write a number from 1 to 1000");
}

TEST(SiteFile, AllProblemsAreFoundInTheOrderOfTheFile) {
    const auto reading =
        read("warn_before_due = 5\n[[user]]\nname = 7\n[[tenant]]\nname = 'a b'\nshare = 1001\n");
    std::vector<uint32_t> lines;
    for (const auto& problem : reading.problems)
        lines.push_back(problem.at.line);
    EXPECT_THAT(lines, ElementsAre(1, 3, 5, 6));
}

TEST(SiteFile, MoreThanFiftyProblemsAreCounted) {
    std::string text;
    for (int i = 0; i < 70; ++i)
        text += fmt::format("wrong{} = 1\n", i);
    const auto site = parse(text, "f");
    ASSERT_FALSE(site.has_value());
    EXPECT_EQ(std::ranges::count(site.error().message(), '\n'), 50);
    EXPECT_THAT(site.error().message(), HasSubstr("f: and 20 more"));
}

TEST(SiteFile, TextThatIsNoTomlIsAProblemAtItsPlace) {
    const auto reading = read("[[tenant]]\nname = \n");
    ASSERT_EQ(reading.problems.size(), 1U);
    EXPECT_EQ(reading.problems[0].at.line, 2U);
    EXPECT_THAT(reading.problems[0].text, HasSubstr("; a site file is TOML"));
}

TEST(SiteFile, AFileOfMoreThanAMebibyteIsRefused) {
    EXPECT_TRUE(read(std::string(most_bytes, '\n')).good());
    EXPECT_THAT(problem_lines(read(std::string(most_bytes + 1, '\n')), "f"),
                HasSubstr("f: the file has 1048577 bytes"));
}

TEST(SiteFile, AKeyThatIsTooDeepIsRefused) {
    std::string deep = "a";
    for (int i = 0; i < 100'000; ++i)
        deep += ".a";
    EXPECT_THAT(problem_lines(read(deep + " = 1"), "f"), HasSubstr("f:1:130: there are more than 64 dots"));
}

TEST(SiteFile, DotsOfALineOfDotsAreOfNoKey) { EXPECT_TRUE(read("# " + std::string(200, '.') + "\n").good()); }

TEST(SiteFile, ListsThatAreTooDeepAreRefused) {
    EXPECT_EQ(read("a = " + std::string(100'000, '[') + std::string(100'000, ']')).problem_count, 1U);
}

} // namespace
} // namespace lanepool::site
