// SPDX-License-Identifier: Apache-2.0
#include "site/site_file.h"

#include "pool/input.h"
#include "site/document.h"

#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sstream>

namespace lanepool::site {
namespace {

using pool::Site;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Two of everything, to refer to.
constexpr std::string_view people = R"(
[[tenant]]
name = "red"
[[tenant]]
name = "blue"
[[user]]
name = "rose"
tenant = "red"
[[user]]
name = "bert"
tenant = "blue"
[[host]]
name = "store"
borrows = false
[[host]]
name = "desk"
lends = false
[class.drives]
any = [{ kind = "nvme" }]
[class.large]
any = [{ kind = "nvme", least = "1 TB" }]
[class.two]
any = [{ device = "store/a" }, { device = "store/b" }]
)";

std::string rule(std::string_view name, std::string_view tenants, std::string_view users,
                 std::string_view classes, std::string_view more = "") {
    return fmt::format("[[rule]]\nname = \"{}\"\ntenants = {}\nusers = {}\nhosts = \"*\"\nclasses = {}\n{}\n",
                       name, tenants, users, classes, more);
}

std::string open_rule(std::string_view more) { return rule("r", "\"*\"", "\"*\"", "\"*\"", more); }

std::string reservation(std::string_view more, std::string_view name = "n") {
    return fmt::format("[[reservation]]\nname = \"{}\"\ntenant = \"red\"\n{}\n", name, more);
}

// With PEOPLE before it.
Site good(std::string_view text) {
    const auto site = parse(std::string(people) + std::string(text), "f");
    EXPECT_TRUE(site.has_value()) << site.error().message();
    return site.value_or(Site());
}

std::vector<std::string> problems(std::string_view text) {
    std::vector<std::string> result;
    for (const auto& problem : read(std::string(people) + std::string(text)).problems)
        result.push_back(problem.text);
    return result;
}

std::string only_problem(std::string_view text) {
    const auto all = problems(text);
    EXPECT_EQ(all.size(), 1U) << fmt::format("{}", fmt::join(all, "\n"));
    return all.empty() ? "" : all.front();
}

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
        "grace='0s'\nsanitize=false\nneeds_iommu=true\nneeds_qualification=true");
    const pool::Rule expected{
        "r", {"red", "blue"}, {"rose"}, {"desk"}, {"large"}, true, 172800, 5400, 4, -5, 9, true, true,
        0,   false,           true,     true};
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

TEST(SiteFile, AnUnknownKeyIsToldTheNearestOne) {
    EXPECT_EQ(only_problem("[[tenant]]\nname='x'\nshares=2"),
              "tenant 'x' has no key 'shares'; did you mean 'share'?");
}

TEST(SiteFile, AnUnknownKeyThatIsLikeNoneIsToldAllOfThem) {
    EXPECT_EQ(only_problem("[[tenant]]\nname='x'\ncolour=2"),
              "tenant 'x' has no key 'colour'; it takes name, share, most_loans");
}

TEST(SiteFile, AnUnknownSectionIsToldTheNearestOne) {
    EXPECT_EQ(only_problem("[[rules]]\nname='x'"), "a site file has no key 'rules'; did you mean 'rule'?");
}

TEST(SiteFile, AWrongTypeIsToldTheRightOne) {
    EXPECT_EQ(only_problem(open_rule("longest = 8")),
              "rule 'r': longest is a whole number; write a text, for example longest = \"8h\"");
}

TEST(SiteFile, ASectionThatIsNoListIsToldHowToWriteIt) {
    EXPECT_EQ(only_problem("[failure]\nclasses='*'"),
              "a site file: failure is a table; write [[failure]] above each");
}

TEST(SiteFile, AMissingNameIsAProblem) {
    EXPECT_EQ(only_problem("[[host]]\nlends=true"), "this host has no name; write name = \"store1\"");
}

TEST(SiteFile, ANameWithABlankIsAProblem) {
    EXPECT_THAT(only_problem("[[host]]\nname='a b'"),
                HasSubstr("'a b' is no name; a name has 1 to 63 letters"));
}

TEST(SiteFile, AControlCharacterOfTheFileIsNotInTheMessage) {
    EXPECT_THAT(only_problem("[[host]]\nname=\"a\\u001b[31m\""), HasSubstr("'a [31m' is no name"));
}

TEST(SiteFile, AStarIsNoName) {
    EXPECT_THAT(only_problem("[[user]]\nname='x'\ntenant='*'"), HasSubstr("cannot be \"*\""));
}

TEST(SiteFile, AStarInAListIsAProblem) {
    EXPECT_EQ(only_problem(rule("r", "['red', '*']", "'*'", "'*'")),
              "rule 'r': tenants has \"*\" in a list; write tenants = \"*\" alone, or names");
}

TEST(SiteFile, ARuleHasToSayWhomItIsAbout) {
    EXPECT_EQ(only_problem("[[rule]]\nname='r'\nusers='*'\nhosts='*'\nclasses='*'"),
              "rule 'r' does not say which tenants it is about; write tenants = [\"NAME\", ...], or tenants "
              "= \"*\" for all of them");
}

TEST(SiteFile, AnEmptyListOfNamesIsAProblem) {
    EXPECT_EQ(only_problem(rule("r", "[]", "'*'", "'*'")),
              "rule 'r': tenants is empty; name some, or write tenants = \"*\" for all");
}

TEST(SiteFile, ANameTwiceInAListIsAProblem) {
    EXPECT_THAT(only_problem(rule("r", "['red','red']", "'*'", "'*'")), HasSubstr("names 'red' twice"));
}

TEST(SiteFile, ADurationThatIsNoneIsAProblem) {
    EXPECT_THAT(only_problem(open_rule("longest='8 hours'")),
                HasSubstr("longest is '8 hours'; write a duration such as"));
}

TEST(SiteFile, ADurationOutOfRangeIsToldTheRange) {
    EXPECT_EQ(only_problem(open_rule("grace='25h'")),
              "rule 'r': grace is '25h'; write a duration from 0s to 1d");
}

TEST(SiteFile, ADefaultLongerThanTheLongestIsAProblem) {
    EXPECT_THAT(only_problem(open_rule("longest='1h'\ndefault='2h'")),
                HasSubstr("default is longer than longest"));
}

TEST(SiteFile, AHighestPriorityBelowThePriorityIsAProblem) {
    EXPECT_THAT(only_problem(open_rule("priority=5\nhighest_priority=4")), HasSubstr("write 5 or more"));
}

TEST(SiteFile, ARuleThatRefusesTakesNoTerms) {
    EXPECT_EQ(only_problem(open_rule("allow=false\nlongest='1h'")),
              "rule 'r' refuses, so 'longest' has no effect; leave it out");
}

TEST(SiteFile, AWordThatIsNoChoiceIsToldTheChoices) {
    EXPECT_EQ(only_problem("[[user]]\nname='x'\nrole='root'"),
              "user 'x': role is 'root'; write one of \"user\", \"operator\", \"admin\"");
}

TEST(SiteFile, AReferenceToNothingIsToldTheNearestName) {
    EXPECT_EQ(only_problem("[[user]]\nname='x'\ntenant='blu'"),
              "user 'x': there is no tenant 'blu'; did you mean 'blue'?");
}

TEST(SiteFile, AReferenceThatIsLikeNothingIsToldWhatToAdd) {
    EXPECT_EQ(only_problem(rule("r", "'*'", "'somebody'", "'*'")),
              "rule 'r': there is no user 'somebody'; add a [[user]], or name one that is there");
}

TEST(SiteFile, ReferencesToHostsAndClassesAreChecked) {
    EXPECT_THAT(problems("[[rule]]\nname='r'\ntenants='*'\nusers='*'\nhosts='deck'\nclasses='larg'\n[class.y]"
                         "\nany=[{host='stor'}]"),
                testing::UnorderedElementsAre(HasSubstr("no host 'deck'; did you mean 'desk'"),
                                              HasSubstr("no class 'larg'"),
                                              HasSubstr("class 'y': there is no host 'stor'")));
}

TEST(SiteFile, AReservationOfNobodyOrNothingIsAProblem) {
    EXPECT_THAT(
        problems("[[reservation]]\nname='n'\ntenant='rad'\nclass='smal'\ncalendar='daily 00:00-24:00'"),
        ElementsAre(HasSubstr("no tenant 'rad'"), HasSubstr("no class 'smal'")));
}

TEST(SiteFile, AHostThatDoesNotLendHasNoDevicesForAClass) {
    EXPECT_THAT(only_problem("[class.y]\nany=[{device='desk/d'}]"), HasSubstr("host 'desk' does not lend"));
}

TEST(SiteFile, AHostThatDoesNotBorrowIsInNoRule) {
    EXPECT_THAT(only_problem("[[rule]]\nname='r'\ntenants='*'\nusers='*'\nhosts='store'\nclasses='*'"),
                HasSubstr("'store' does not borrow"));
}

TEST(SiteFile, ANameThatIsTakenIsToldWhere) {
    EXPECT_EQ(only_problem("[[tenant]]\nname='red'"),
              "tenant 'red' is already at line 2; give this one another name, or remove it");
}

TEST(SiteFile, AnEmptySelectorIsAProblem) {
    EXPECT_THAT(only_problem("[class.y]\nany=[{}]"), HasSubstr("class 'y' has an empty selector"));
}

TEST(SiteFile, AClassWithoutSelectorsIsAProblem) {
    EXPECT_THAT(only_problem("[class.y]\nany=[]"), HasSubstr("class 'y' has no selector"));
}

TEST(SiteFile, AClassThatIsNoTableIsAProblem) {
    EXPECT_THAT(problems("[class]\nq=1").front(),
                testing::AnyOf(HasSubstr("class 'q' is a whole number"), HasSubstr("TOML")));
}

TEST(SiteFile, ADeviceThatIsNoneIsAProblem) {
    for (const auto* device : {"nvme0", "store/", "/x", "a/b/c", "0", "12345678901234567"})
        EXPECT_THAT(only_problem(fmt::format("[class.y]\nany=[{{device='{}'}}]", device)),
                    HasSubstr("write HOST/NAME"))
            << device;
}

TEST(SiteFile, ADeviceAtAnotherHostIsAProblem) {
    EXPECT_THAT(only_problem("[[host]]\nname='other'\n[class.y]\nany=[{device='store/a', host='other'}]"),
                HasSubstr("is not at host 'other'"));
}

TEST(SiteFile, ACapacityThatIsNoneIsAProblem) {
    EXPECT_THAT(only_problem("[class.y]\nany=[{least='much'}]"), HasSubstr("write a capacity such as"));
}

TEST(SiteFile, ARuleAfterOneThatTakesEverythingIsAProblem) {
    EXPECT_EQ(only_problem(open_rule("") + rule("late", "'red'", "'*'", "'large'")),
              "rule 'late' never decides: rule 'r' at line 24 takes everything that it is about, and the "
              "first that fits decides; put "
              "this one before it, or remove it");
}

TEST(SiteFile, ARuleBeforeOneThatTakesEverythingIsNone) {
    EXPECT_THAT(problems(rule("early", "'red'", "'*'", "'large'") + open_rule("")), IsEmpty());
}

TEST(SiteFile, ARuleOfOneTenantDoesNotHideOneOfAnother) {
    EXPECT_THAT(problems(rule("a", "'red'", "'*'", "'*'") + rule("b", "'blue'", "'*'", "'*'")), IsEmpty());
}

TEST(SiteFile, ARuleOfATenantHidesOneOfItsUsers) {
    EXPECT_THAT(only_problem(rule("a", "'red'", "'*'", "'*'") + rule("b", "'*'", "'rose'", "'*'")),
                HasSubstr("rule 'b' never decides"));
}

TEST(SiteFile, ARuleOfATenantDoesNotHideOneOfAnothersUser) {
    EXPECT_THAT(problems(rule("a", "'red'", "'*'", "'*'") + rule("b", "'*'", "'bert'", "'*'")), IsEmpty());
}

TEST(SiteFile, ARuleOfAWideClassHidesOneOfANarrowClass) {
    EXPECT_THAT(only_problem(rule("a", "'*'", "'*'", "'drives'") + rule("b", "'*'", "'*'", "'large'")),
                HasSubstr("rule 'b' never decides"));
}

TEST(SiteFile, ARuleOfANarrowClassDoesNotHideOneOfAWideClass) {
    EXPECT_THAT(problems(rule("a", "'*'", "'*'", "'large'") + rule("b", "'*'", "'*'", "'drives'")),
                IsEmpty());
}

TEST(SiteFile, ARuleWhoseUsersAreOfOtherTenantsIsAProblem) {
    EXPECT_THAT(only_problem(rule("a", "'red'", "'bert'", "'*'")), HasSubstr("rule 'a' fits nobody"));
}

TEST(SiteFile, AFailureAfterOneOfAllClassesIsAProblem) {
    EXPECT_THAT(only_problem("[[failure]]\nclasses='*'\n[[failure]]\nclasses='large'"),
                HasSubstr("this failure never counts: the one at line 24"));
}

TEST(SiteFile, WaitingForABorrowerTakesATime) {
    EXPECT_EQ(only_problem("[[failure]]\nclasses='*'\non_borrower_crash='wait'"),
              "this failure: on_borrower_crash is \"wait\", but there is no wait; write wait = \"10m\"");
}

TEST(SiteFile, ATimeToWaitWithoutWaitingIsAProblem) {
    EXPECT_THAT(only_problem("[[failure]]\nclasses='*'\nwait='1h'"),
                HasSubstr("wait has no effect without on_borrower_crash = \"wait\""));
}

TEST(SiteFile, RetriesOfAResetAreBounded) {
    EXPECT_THAT(only_problem("[[failure]]\nclasses='*'\non_failed_reset='retry'\nreset_retries=11"),
                HasSubstr("from 1 to 10"));
}

TEST(SiteFile, AReservationOfNoDevicesIsAProblem) {
    EXPECT_THAT(only_problem(reservation("class='large'\ncount=0\ncalendar='daily 00:00-24:00'")),
                HasSubstr("count is 0; write a number from 1"));
}

TEST(SiteFile, AReservationWithoutATimeIsAProblem) {
    EXPECT_THAT(only_problem(reservation("class='large'")), HasSubstr("does not say when"));
}

TEST(SiteFile, AReservationWithTwoKindsOfTimesIsAProblem) {
    EXPECT_THAT(
        only_problem(reservation("class='large'\ncalendar='daily "
                                 "00:00-24:00'\nfrom=2026-12-01T08:00:00Z\nuntil=2026-12-02T08:00:00Z")),
        HasSubstr("both a calendar and from or until"));
}

TEST(SiteFile, AReservationWithoutAnEndIsAProblem) {
    EXPECT_THAT(only_problem(reservation("class='large'\nfrom=2026-12-01T08:00:00Z")),
                HasSubstr("only one of from and until"));
}

TEST(SiteFile, AReservationThatEndsBeforeItBeginsIsAProblem) {
    EXPECT_THAT(
        only_problem(reservation("class='large'\nfrom=2026-12-02T08:00:00Z\nuntil=2026-12-01T08:00:00Z")),
        HasSubstr("until is not later than from"));
}

TEST(SiteFile, ATimeWithoutAnOffsetIsAProblem) {
    EXPECT_THAT(
        only_problem(reservation("class='large'\nfrom=2026-12-01T08:00:00\nuntil=2026-12-02T08:00:00Z")),
        HasSubstr("from is a time without an offset; write a time, for example from = 2026-12-01T08:00:00Z"));
}

TEST(SiteFile, AReservationOfMoreDevicesThanItsClassNamesIsAProblem) {
    EXPECT_THAT(only_problem(reservation("class='two'\ncount=3\ncalendar='daily 00:00-24:00'")),
                HasSubstr("asks for 3 devices, but class 'two' names only 2"));
}

TEST(SiteFile, ReservationsThatNeedMoreDevicesTogetherAreAProblem) {
    EXPECT_THAT(only_problem(reservation("class='two'\ncount=2\ncalendar='mon 18:00-06:00'", "a") +
                             reservation("class='two'\ncalendar='tue 05:00-07:00'", "b")),
                HasSubstr("reservation 'b' overlaps others: together they need 3 devices"));
}

TEST(SiteFile, ReservationsOneAfterTheOtherAreNone) {
    EXPECT_THAT(problems(reservation("class='two'\ncount=2\ncalendar='mon 18:00-06:00'", "a") +
                         reservation("class='two'\ncalendar='tue 06:00-07:00'", "b")),
                IsEmpty());
}

TEST(SiteFile, ReservationsThatOverlapByTheirOffsetsAreAProblem) {
    EXPECT_THAT(
        only_problem(
            reservation("class='two'\ncount=2\ncalendar='mon 18:00-19:00'\nutc_offset='-02:00'", "a") +
            reservation("class='two'\ncalendar='mon 20:30-20:40'", "b")),
        HasSubstr("together they need 3"));
}

TEST(SiteFile, AReservationOnceThatOverlapsAWeeklyOneLaterIsAProblem) {
    // 1 December 2026 is a Tuesday; the following Monday lies within.
    EXPECT_THAT(
        only_problem(reservation("class='two'\ncount=2\ncalendar='mon 10:00-11:00'", "a") +
                     reservation("class='two'\nfrom=2026-12-01T08:00:00Z\nuntil=2026-12-08T08:00:00Z", "b")),
        HasSubstr("reservation 'b' overlaps others"));
}

TEST(SiteFile, AReservationOnceBetweenWeeklyOnesIsNone) {
    EXPECT_THAT(
        problems(reservation("class='two'\ncount=2\ncalendar='mon 10:00-11:00'", "a") +
                 reservation("class='two'\nfrom=2026-12-01T08:00:00Z\nuntil=2026-12-07T10:00:00Z", "b")),
        IsEmpty());
}

TEST(SiteFile, TooManyUsersAreAProblem) {
    std::string text;
    for (int i = 0; i < 10'001; ++i)
        text += fmt::format("[[user]]\nname='u{}'\n", i);
    EXPECT_THAT(problem_lines(read(text), "f"),
                HasSubstr("there are 10001 of user; at most 10000 are taken"));
}

// What an unfriendly file of the largest size costs: a moment even with sanitizers, and not minutes.
TEST(SiteFile, RulesWithLongListsAreComparedInBoundedTime) {
    constexpr int users = 700;
    std::string text;
    for (int i = 0; i < users; ++i)
        text += fmt::format("[[user]]\nname='u{}'\n", i);
    for (int without = 0; text.size() < most_bytes - 8192; ++without) {
        std::string list;
        for (int i = 0; i < users; ++i)
            if (i != without) list += fmt::format("{}'u{}'", list.empty() ? "[" : ",", i);
        text += rule(fmt::format("r{}", without), "'*'", list + "]", "'*'");
    }
    const auto before = std::chrono::steady_clock::now();
    EXPECT_TRUE(read(text).good());
    EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(20));
}

} // namespace
} // namespace lanepool::site
