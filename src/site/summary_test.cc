// SPDX-License-Identifier: Apache-2.0
#include "pool/input.h"
#include "site/site_file.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace lanepool::site {
namespace {

pool::Rule rule(const std::string& name, int32_t priority = 0) {
    pool::Rule result;
    result.name = name;
    result.priority = priority;
    return result;
}

TEST(Summary, TheSameIsNothing) { EXPECT_EQ(summary({}, {}), "nothing"); }

TEST(Summary, NamesWhatIsAddedChangedAndRemoved) {
    pool::Site before;
    before.rules = {rule("old"), rule("lab")};
    before.tenants = {{"red", 1, 0}};
    pool::Site after;
    after.rules = {rule("lab", 5), rule("night")};
    EXPECT_EQ(summary(before, after), "tenants: red removed; rules: lab changed, night added, old removed");
}

TEST(Summary, SaysThatRulesHaveAnotherOrder) {
    pool::Site before;
    before.rules = {rule("a"), rule("b")};
    pool::Site after;
    after.rules = {rule("b"), rule("a")};
    EXPECT_EQ(summary(before, after), "rules: in another order");
}

TEST(Summary, SaysThatFailuresHaveChanged) {
    pool::Site after;
    after.failures = {{}};
    EXPECT_EQ(summary({}, after), "failures: 0 before, 1 now");
}

TEST(Summary, SaysWhenItWarnsNow) {
    pool::Site after;
    after.warn_before_due_s = 5400;
    EXPECT_EQ(summary({}, after), "warn_before_due: 5m before, 1h30m now");
}

TEST(Summary, CountsWhatIsTooMuchToName) {
    pool::Site after;
    for (int i = 0; i < 100; ++i)
        after.rules.push_back(rule(fmt::format("rule{}", i)));
    EXPECT_EQ(summary({}, after), "rules: 100 changes");
}

} // namespace
} // namespace lanepool::site
