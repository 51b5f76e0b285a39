// SPDX-License-Identifier: Apache-2.0
#include "pool/input.h"
#include "site/site_file.h"
#include "site/words.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <map>

namespace lanepool::site {

namespace {

struct Change {
    std::string_view section;
    std::vector<std::string> words; // "night added"
};

template <class T>
Change change(std::string_view section, const std::vector<T>& before, const std::vector<T>& after,
              bool order_counts = false) {
    Change result{section, {}};
    std::map<std::string_view, const T*> old;
    for (const auto& each : before)
        old.emplace(each.name, &each);
    for (const auto& each : after) {
        const auto found = old.find(each.name);
        if (found == old.end()) {
            result.words.push_back(each.name + " added");
        } else {
            if (!(*found->second == each)) result.words.push_back(each.name + " changed");
            old.erase(found);
        }
    }
    for (const auto& [name, each] : old)
        result.words.push_back(fmt::format("{} removed", name));
    if (order_counts && result.words.empty() && before != after)
        result.words.emplace_back("in another order");
    return result;
}

std::string text_of(const std::vector<Change>& changes, bool with_names) {
    std::vector<std::string> parts;
    for (const auto& [section, words] : changes) {
        if (words.empty()) continue;
        parts.push_back(with_names ? fmt::format("{}: {}", section, fmt::join(words, ", "))
                                   : fmt::format("{}: {} changes", section, words.size()));
    }
    return fmt::format("{}", fmt::join(parts, "; "));
}

} // namespace

std::string summary(const pool::Site& before, const pool::Site& after) {
    std::vector<Change> changes{change("tenants", before.tenants, after.tenants),
                                change("users", before.users, after.users),
                                change("hosts", before.hosts, after.hosts),
                                change("classes", before.classes, after.classes),
                                change("rules", before.rules, after.rules, true),
                                Change{"failures", {}},
                                change("reservations", before.reservations, after.reservations),
                                Change{"warn_before_due", {}}};
    if (before.failures != after.failures)
        changes[5].words.push_back(
            fmt::format("{} before, {} now", before.failures.size(), after.failures.size()));
    if (before.warn_before_due_s != after.warn_before_due_s)
        changes[7].words.push_back(fmt::format("{} before, {} now", duration_text(before.warn_before_due_s),
                                               duration_text(after.warn_before_due_s)));
    const std::string text = text_of(changes, true);
    if (text.empty()) return "nothing";
    return text.size() <= pool::longest_text ? text : text_of(changes, false);
}

} // namespace lanepool::site
