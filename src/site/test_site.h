// SPDX-License-Identifier: Apache-2.0
//
// Site files for tests, in small pieces.
#pragma once

#include "site/site_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

namespace lanepool::site {

// Two of everything, to refer to.
inline constexpr std::string_view people = R"(
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

inline std::string rule(std::string_view name, std::string_view tenants, std::string_view users,
                        std::string_view classes, std::string_view more = "") {
    return fmt::format("[[rule]]\nname = \"{}\"\ntenants = {}\nusers = {}\nhosts = \"*\"\nclasses = {}\n{}\n",
                       name, tenants, users, classes, more);
}

inline std::string open_rule(std::string_view more) { return rule("r", "\"*\"", "\"*\"", "\"*\"", more); }

inline std::string reservation(std::string_view more, std::string_view name = "n") {
    return fmt::format("[[reservation]]\nname = \"{}\"\ntenant = \"red\"\n{}\n", name, more);
}

// With PEOPLE before it.
inline pool::Site good(std::string_view text) {
    const auto site = parse(std::string(people) + std::string(text), "f");
    EXPECT_TRUE(site.has_value()) << site.error().message();
    return site.value_or(pool::Site());
}

inline std::vector<std::string> problems(std::string_view text) {
    std::vector<std::string> result;
    for (const auto& problem : read(std::string(people) + std::string(text)).problems)
        result.push_back(problem.text);
    return result;
}

inline std::string only_problem(std::string_view text) {
    const auto all = problems(text);
    EXPECT_EQ(all.size(), 1U) << fmt::format("{}", fmt::join(all, "\n"));
    return all.empty() ? "" : all.front();
}

} // namespace lanepool::site
