// SPDX-License-Identifier: Apache-2.0
#include "pool/input.h"
#include "pool/state.h"

#include <gtest/gtest.h>

namespace lanepool::pool {
namespace {

TEST(State, NamesLeadBack) {
    for (const auto state : loan_states)
        EXPECT_EQ(loan_state(name(state)), state);
    for (const auto state : device_states)
        EXPECT_EQ(device_state(name(state)), state);
    for (const auto kind : step_kinds)
        EXPECT_EQ(step_kind(name(kind)), kind);
    EXPECT_EQ(loan_state("lent"), std::nullopt);
    EXPECT_EQ(device_state(""), std::nullopt);
}

TEST(State, EveryLiveLoanMayFail) {
    for (const auto state : loan_states)
        EXPECT_EQ(may_follow(state, LoanState::failed), !has_ended(state)) << name(state);
}

TEST(State, NothingFollowsTheEndOfALoan) {
    for (const auto to : loan_states) {
        EXPECT_FALSE(may_follow(LoanState::returned, to)) << name(to);
        EXPECT_FALSE(may_follow(LoanState::failed, to)) << name(to);
    }
}

TEST(State, NoStateFollowsItself) {
    for (const auto state : loan_states)
        EXPECT_FALSE(may_follow(state, state)) << name(state);
    for (const auto state : device_states)
        EXPECT_FALSE(may_follow(state, state)) << name(state);
}

TEST(State, ALentDeviceReachesThePoolOnlyThroughRecovery) {
    EXPECT_FALSE(may_follow(DeviceState::lent, DeviceState::available));
    EXPECT_FALSE(may_follow(DeviceState::reserved, DeviceState::available));
    EXPECT_FALSE(may_follow(DeviceState::quarantined, DeviceState::available));
    EXPECT_TRUE(may_follow(DeviceState::recovering, DeviceState::available));
}

TEST(State, OnlyAnAvailableDeviceIsReserved) {
    for (const auto from : device_states)
        EXPECT_EQ(may_follow(from, DeviceState::reserved),
                  from == DeviceState::available || from == DeviceState::offline)
            << name(from);
}

TEST(Text, IsCutAtAWholeCharacter) {
    EXPECT_EQ(limited("ab\xc3\xa9", 3), "ab");
    EXPECT_EQ(limited("ab\xc3\xa9", 4), "ab\xc3\xa9");
    EXPECT_EQ(limited("a\nb\x1b[0m", 10), "a b [0m");
}

TEST(Text, NamesAreOfSafeCharacters) {
    EXPECT_TRUE(is_name("store-1.rack_2"));
    for (const char* bad : {"", "a/b", "-x", ".x", "a b", "a\n", "\xc3\xa9"})
        EXPECT_FALSE(is_name(bad)) << bad;
    EXPECT_FALSE(is_name(std::string(64, 'a')));
    EXPECT_TRUE(is_name(std::string(63, 'a')));
}

} // namespace
} // namespace lanepool::pool
