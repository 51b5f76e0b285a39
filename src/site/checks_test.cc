// SPDX-License-Identifier: Apache-2.0
#include "site/document.h"
#include "site/test_site.h"

#include <chrono>
#include <gmock/gmock.h>

namespace lanepool::site {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(Checks, AReferenceToNothingIsToldTheNearestName) {
    EXPECT_EQ(only_problem("[[user]]\nname='x'\ntenant='blu'"),
              "user 'x': there is no tenant 'blu'; did you mean 'blue'?");
}

TEST(Checks, AReferenceThatIsLikeNothingIsToldWhatToAdd) {
    EXPECT_EQ(only_problem(rule("r", "'*'", "'somebody'", "'*'")),
              "rule 'r': there is no user 'somebody'; add a [[user]], or name one that is there");
}

TEST(Checks, ReferencesToHostsAndClassesAreChecked) {
    EXPECT_THAT(problems("[[rule]]\nname='r'\ntenants='*'\nusers='*'\nhosts='deck'\nclasses='larg'\n[class.y]"
                         "\nany=[{host='stor'}]"),
                testing::UnorderedElementsAre(HasSubstr("no host 'deck'; did you mean 'desk'"),
                                              HasSubstr("no class 'larg'"),
                                              HasSubstr("class 'y': there is no host 'stor'")));
}

TEST(Checks, AReservationOfNobodyOrNothingIsAProblem) {
    EXPECT_THAT(
        problems("[[reservation]]\nname='n'\ntenant='rad'\nclass='smal'\ncalendar='daily 00:00-24:00'"),
        ElementsAre(HasSubstr("no tenant 'rad'"), HasSubstr("no class 'smal'")));
}

TEST(Checks, AHostThatDoesNotLendHasNoDevicesForAClass) {
    EXPECT_THAT(only_problem("[class.y]\nany=[{device='desk/d'}]"), HasSubstr("host 'desk' does not lend"));
}

TEST(Checks, AHostThatDoesNotBorrowIsInNoRule) {
    EXPECT_THAT(only_problem("[[rule]]\nname='r'\ntenants='*'\nusers='*'\nhosts='store'\nclasses='*'"),
                HasSubstr("'store' does not borrow"));
}

TEST(Checks, ANameThatIsTakenIsToldWhere) {
    EXPECT_EQ(only_problem("[[tenant]]\nname='red'"),
              "tenant 'red' is already at line 2; give this one another name, or remove it");
}

TEST(Checks, ARuleAfterOneThatTakesEverythingIsAProblem) {
    EXPECT_EQ(only_problem(open_rule("") + rule("late", "'red'", "'*'", "'large'")),
              "rule 'late' never decides: rule 'r' at line 24 takes everything that it is about, and the "
              "first that fits decides; put "
              "this one before it, or remove it");
}

TEST(Checks, ARuleBeforeOneThatTakesEverythingIsNone) {
    EXPECT_THAT(problems(rule("early", "'red'", "'*'", "'large'") + open_rule("")), IsEmpty());
}

TEST(Checks, ARuleOfOneTenantDoesNotHideOneOfAnother) {
    EXPECT_THAT(problems(rule("a", "'red'", "'*'", "'*'") + rule("b", "'blue'", "'*'", "'*'")), IsEmpty());
}

TEST(Checks, ARuleOfATenantHidesOneOfItsUsers) {
    EXPECT_THAT(only_problem(rule("a", "'red'", "'*'", "'*'") + rule("b", "'*'", "'rose'", "'*'")),
                HasSubstr("rule 'b' never decides"));
}

TEST(Checks, ARuleOfATenantDoesNotHideOneOfAnothersUser) {
    EXPECT_THAT(problems(rule("a", "'red'", "'*'", "'*'") + rule("b", "'*'", "'bert'", "'*'")), IsEmpty());
}

TEST(Checks, ARuleOfAWideClassHidesOneOfANarrowClass) {
    EXPECT_THAT(only_problem(rule("a", "'*'", "'*'", "'drives'") + rule("b", "'*'", "'*'", "'large'")),
                HasSubstr("rule 'b' never decides"));
}

TEST(Checks, ARuleOfANarrowClassDoesNotHideOneOfAWideClass) {
    EXPECT_THAT(problems(rule("a", "'*'", "'*'", "'large'") + rule("b", "'*'", "'*'", "'drives'")),
                IsEmpty());
}

TEST(Checks, ARuleWhoseUsersAreOfOtherTenantsIsAProblem) {
    EXPECT_THAT(only_problem(rule("a", "'red'", "'bert'", "'*'")), HasSubstr("rule 'a' fits nobody"));
}

TEST(Checks, AFailureAfterOneOfAllClassesIsAProblem) {
    EXPECT_THAT(only_problem("[[failure]]\nclasses='*'\n[[failure]]\nclasses='large'"),
                HasSubstr("this failure never counts: the one at line 24"));
}

TEST(Checks, AReservationOfMoreDevicesThanItsClassNamesIsAProblem) {
    EXPECT_THAT(only_problem(reservation("class='two'\ncount=3\ncalendar='daily 00:00-24:00'")),
                HasSubstr("asks for 3 devices, but class 'two' names only 2"));
}

TEST(Checks, ReservationsThatNeedMoreDevicesTogetherAreAProblem) {
    EXPECT_THAT(only_problem(reservation("class='two'\ncount=2\ncalendar='mon 18:00-06:00'", "a") +
                             reservation("class='two'\ncalendar='tue 05:00-07:00'", "b")),
                HasSubstr("reservation 'b' overlaps others: together they need 3 devices"));
}

TEST(Checks, ReservationsOneAfterTheOtherAreNone) {
    EXPECT_THAT(problems(reservation("class='two'\ncount=2\ncalendar='mon 18:00-06:00'", "a") +
                         reservation("class='two'\ncalendar='tue 06:00-07:00'", "b")),
                IsEmpty());
}

TEST(Checks, ReservationsThatOverlapByTheirOffsetsAreAProblem) {
    EXPECT_THAT(
        only_problem(
            reservation("class='two'\ncount=2\ncalendar='mon 18:00-19:00'\nutc_offset='-02:00'", "a") +
            reservation("class='two'\ncalendar='mon 20:30-20:40'", "b")),
        HasSubstr("together they need 3"));
}

TEST(Checks, AReservationOnceThatOverlapsAWeeklyOneLaterIsAProblem) {
    // 1 December 2026 is a Tuesday; the following Monday lies within.
    EXPECT_THAT(
        only_problem(reservation("class='two'\ncount=2\ncalendar='mon 10:00-11:00'", "a") +
                     reservation("class='two'\nfrom=2026-12-01T08:00:00Z\nuntil=2026-12-08T08:00:00Z", "b")),
        HasSubstr("reservation 'b' overlaps others"));
}

TEST(Checks, AReservationOnceBetweenWeeklyOnesIsNone) {
    EXPECT_THAT(
        problems(reservation("class='two'\ncount=2\ncalendar='mon 10:00-11:00'", "a") +
                 reservation("class='two'\nfrom=2026-12-01T08:00:00Z\nuntil=2026-12-07T10:00:00Z", "b")),
        IsEmpty());
}

TEST(Checks, ARuleOfOneHostDoesNotHideOneOfAnother) {
    const auto of_host = [](std::string_view name, std::string_view host) {
        return fmt::format("[[rule]]\nname='{}'\ntenants='*'\nusers='*'\nhosts='{}'\nclasses='*'\n", name,
                           host);
    };
    EXPECT_THAT(problems("[[host]]\nname='bench'\n" + of_host("a", "desk") + of_host("b", "bench")),
                IsEmpty());
}

TEST(Checks, ARuleThatFitsNobodyHidesNoOther) {
    EXPECT_THAT(only_problem(rule("a", "'red'", "'bert'", "'*'") + open_rule("")),
                HasSubstr("rule 'a' fits nobody"));
}

TEST(Checks, NothingIsConcludedFromARuleThatIsWrong) {
    EXPECT_THAT(only_problem(rule("a", "[]", "'*'", "'*'") + open_rule("")),
                HasSubstr("rule 'a': tenants is empty"));
    EXPECT_THAT(only_problem(open_rule("") + rule("b", "[]", "'*'", "'*'")),
                HasSubstr("rule 'b': tenants is empty"));
}

// What an unfriendly file of the largest size costs: a moment even with sanitizers, and not minutes.
TEST(Checks, RulesWithLongListsAreComparedInBoundedTime) {
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
