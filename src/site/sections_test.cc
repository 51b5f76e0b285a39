// SPDX-License-Identifier: Apache-2.0
#include "site/test_site.h"

#include <gmock/gmock.h>

namespace lanepool::site {
namespace {

using testing::HasSubstr;

TEST(Sections, AnUnknownKeyIsToldTheNearestOne) {
    EXPECT_EQ(only_problem("[[tenant]]\nname='x'\nshares=2"),
              "tenant 'x' has no key 'shares'; did you mean 'share'?");
}

TEST(Sections, AnUnknownKeyThatIsLikeNoneIsToldAllOfThem) {
    EXPECT_EQ(only_problem("[[tenant]]\nname='x'\ncolour=2"),
              "tenant 'x' has no key 'colour'; it takes name, share, most_loans");
}

TEST(Sections, AnUnknownSectionIsToldTheNearestOne) {
    EXPECT_EQ(only_problem("[[rules]]\nname='x'"), "a site file has no key 'rules'; did you mean 'rule'?");
}

TEST(Sections, AWrongTypeIsToldTheRightOne) {
    EXPECT_EQ(only_problem(open_rule("longest = 8")),
              "rule 'r': longest is a whole number; write a text, for example longest = \"8h\"");
}

TEST(Sections, ASectionThatIsNoListIsToldHowToWriteIt) {
    EXPECT_EQ(only_problem("[failure]\nclasses='*'"),
              "a site file: failure is a table; write [[failure]] above each");
}

TEST(Sections, AMissingNameIsAProblem) {
    EXPECT_EQ(only_problem("[[host]]\nlends=true"), "this host has no name; write name = \"store1\"");
}

TEST(Sections, ANameWithABlankIsAProblem) {
    EXPECT_THAT(only_problem("[[host]]\nname='a b'"),
                HasSubstr("'a b' is no name; a name has 1 to 63 letters"));
}

TEST(Sections, AControlCharacterOfTheFileIsNotInTheMessage) {
    EXPECT_THAT(only_problem("[[host]]\nname=\"a\\u001b[31m\""), HasSubstr("'a [31m' is no name"));
}

TEST(Sections, AStarIsNoName) {
    EXPECT_THAT(only_problem("[[user]]\nname='x'\ntenant='*'"), HasSubstr("cannot be \"*\""));
}

TEST(Sections, AStarInAListIsAProblem) {
    EXPECT_EQ(only_problem(rule("r", "['red', '*']", "'*'", "'*'")),
              "rule 'r': tenants has \"*\" in a list; write tenants = \"*\" alone, or names");
}

TEST(Sections, ARuleHasToSayWhomItIsAbout) {
    EXPECT_EQ(only_problem("[[rule]]\nname='r'\nusers='*'\nhosts='*'\nclasses='*'"),
              "rule 'r' does not say which tenants it is about; write tenants = [\"NAME\", ...], or tenants "
              "= \"*\" for all of them");
}

TEST(Sections, AnEmptyListOfNamesIsAProblem) {
    EXPECT_EQ(only_problem(rule("r", "[]", "'*'", "'*'")),
              "rule 'r': tenants is empty; name some, or write tenants = \"*\" for all");
}

TEST(Sections, ANameTwiceInAListIsAProblem) {
    EXPECT_THAT(only_problem(rule("r", "['red','red']", "'*'", "'*'")), HasSubstr("names 'red' twice"));
}

TEST(Sections, ADurationThatIsNoneIsAProblem) {
    EXPECT_THAT(only_problem(open_rule("longest='8 hours'")),
                HasSubstr("longest is '8 hours'; write a duration such as"));
}

TEST(Sections, ADurationOutOfRangeIsToldTheRange) {
    EXPECT_EQ(only_problem(open_rule("grace='25h'")),
              "rule 'r': grace is '25h'; write a duration from 0s to 1d");
}

TEST(Sections, ADefaultLongerThanTheLongestIsAProblem) {
    EXPECT_THAT(only_problem(open_rule("longest='1h'\ndefault='2h'")),
                HasSubstr("default is longer than longest"));
}

TEST(Sections, AHighestPriorityBelowThePriorityIsAProblem) {
    EXPECT_THAT(only_problem(open_rule("priority=5\nhighest_priority=4")), HasSubstr("write 5 or more"));
}

TEST(Sections, ARuleThatRefusesTakesNoTerms) {
    EXPECT_EQ(only_problem(open_rule("allow=false\nlongest='1h'")),
              "rule 'r' refuses, so 'longest' has no effect; leave it out");
}

TEST(Sections, AWordThatIsNoChoiceIsToldTheChoices) {
    EXPECT_EQ(only_problem("[[user]]\nname='x'\nrole='root'"),
              "user 'x': role is 'root'; write one of \"user\", \"operator\", \"admin\"");
}

TEST(Sections, AnEmptySelectorIsAProblem) {
    EXPECT_THAT(only_problem("[class.y]\nany=[{}]"), HasSubstr("class 'y' has an empty selector"));
}

TEST(Sections, AClassWithoutSelectorsIsAProblem) {
    EXPECT_THAT(only_problem("[class.y]\nany=[]"), HasSubstr("class 'y' has no selector"));
}

TEST(Sections, AClassThatIsNoTableIsAProblem) {
    EXPECT_THAT(problems("[class]\nq=1").front(),
                testing::AnyOf(HasSubstr("class 'q' is a whole number"), HasSubstr("TOML")));
}

TEST(Sections, ADeviceThatIsNoneIsAProblem) {
    for (const auto* device : {"nvme0", "store/", "/x", "a/b/c", "0", "12345678901234567"})
        EXPECT_THAT(only_problem(fmt::format("[class.y]\nany=[{{device='{}'}}]", device)),
                    HasSubstr("write HOST/NAME"))
            << device;
}

TEST(Sections, ADeviceAtAnotherHostIsAProblem) {
    EXPECT_THAT(only_problem("[[host]]\nname='other'\n[class.y]\nany=[{device='store/a', host='other'}]"),
                HasSubstr("is not at host 'other'"));
}

TEST(Sections, ACapacityThatIsNoneIsAProblem) {
    EXPECT_THAT(only_problem("[class.y]\nany=[{least='much'}]"), HasSubstr("write a capacity such as"));
}

TEST(Sections, WaitingForABorrowerTakesATime) {
    EXPECT_EQ(only_problem("[[failure]]\nclasses='*'\non_borrower_crash='wait'"),
              "this failure: on_borrower_crash is \"wait\", but there is no wait; write wait = \"10m\"");
}

TEST(Sections, ATimeToWaitWithoutWaitingIsAProblem) {
    EXPECT_THAT(only_problem("[[failure]]\nclasses='*'\nwait='1h'"),
                HasSubstr("wait has no effect without on_borrower_crash = \"wait\""));
}

TEST(Sections, RetriesOfAResetAreBounded) {
    EXPECT_THAT(only_problem("[[failure]]\nclasses='*'\non_failed_reset='retry'\nreset_retries=11"),
                HasSubstr("from 1 to 10"));
}

TEST(Sections, AReservationOfNoDevicesIsAProblem) {
    EXPECT_THAT(only_problem(reservation("class='large'\ncount=0\ncalendar='daily 00:00-24:00'")),
                HasSubstr("count is 0; write a number from 1"));
}

TEST(Sections, AReservationWithoutATimeIsAProblem) {
    EXPECT_THAT(only_problem(reservation("class='large'")), HasSubstr("does not say when"));
}

TEST(Sections, AReservationWithTwoKindsOfTimesIsAProblem) {
    EXPECT_THAT(
        only_problem(reservation("class='large'\ncalendar='daily "
                                 "00:00-24:00'\nfrom=2026-12-01T08:00:00Z\nuntil=2026-12-02T08:00:00Z")),
        HasSubstr("both a calendar and from or until"));
}

TEST(Sections, AReservationWithoutAnEndIsAProblem) {
    EXPECT_THAT(only_problem(reservation("class='large'\nfrom=2026-12-01T08:00:00Z")),
                HasSubstr("only one of from and until"));
}

TEST(Sections, AReservationThatEndsBeforeItBeginsIsAProblem) {
    EXPECT_THAT(
        only_problem(reservation("class='large'\nfrom=2026-12-02T08:00:00Z\nuntil=2026-12-01T08:00:00Z")),
        HasSubstr("until is not later than from"));
}

TEST(Sections, ATimeWithoutAnOffsetIsAProblem) {
    EXPECT_THAT(
        only_problem(reservation("class='large'\nfrom=2026-12-01T08:00:00\nuntil=2026-12-02T08:00:00Z")),
        HasSubstr("from is a time without an offset; write a time, for example from = 2026-12-01T08:00:00Z"));
}

TEST(Sections, TooManyUsersAreAProblem) {
    std::string text;
    for (int i = 0; i < 10'001; ++i)
        text += fmt::format("[[user]]\nname='u{}'\n", i);
    EXPECT_THAT(problem_lines(read(text), "f"),
                HasSubstr("there are 10001 of user; at most 10000 are taken"));
}

TEST(Sections, ModesOfDmaAreThoseThatThereAre) {
    EXPECT_EQ(only_problem(open_rule("dma = [\"bounce\", \"swiotlb\"]")),
              "rule 'r': a mode in dma is 'swiotlb'; write \"bounce\", \"iommu\" or \"direct\"");
    EXPECT_EQ(only_problem(open_rule("dma = [\"\"]")),
              "rule 'r': a mode in dma is ''; write \"bounce\", \"iommu\" or \"direct\"");
    EXPECT_EQ(only_problem(open_rule("dma = [1]")),
              "rule 'r': a mode in dma is no text; write \"bounce\", \"iommu\" or \"direct\"");
}

TEST(Sections, EachModeOfDmaStandsOnce) {
    EXPECT_EQ(only_problem(open_rule("dma = [\"iommu\", \"bounce\", \"iommu\"]")),
              "rule 'r': dma names 'iommu' twice; write each mode once");
    EXPECT_EQ(
        only_problem(open_rule("dma = []")),
        "rule 'r': dma is empty; write the modes that are allowed, the default first, like [\"bounce\", "
        "\"iommu\"]");
}

TEST(Sections, AProblemOfDmaStandsWhereItsLineIs) {
    const auto found = read(std::string(people) + open_rule("dma = [\n  \"bounce\",\n  \"direkt\",\n]"));
    ASSERT_EQ(found.problems.size(), 1U);
    const std::string text = std::string(people) + open_rule("dma = [\n  \"bounce\",\n  \"");
    EXPECT_EQ(found.problems[0].at.line, static_cast<uint32_t>(std::count(text.begin(), text.end(), '\n')));
}

TEST(Sections, ARuleThatRefusesHasNoModesOfDma) {
    EXPECT_EQ(only_problem(open_rule("allow = false\ndma = [\"bounce\"]")),
              "rule 'r' refuses, so 'dma' has no effect; leave it out");
}

} // namespace
} // namespace lanepool::site
