// SPDX-License-Identifier: Apache-2.0
//
// Rules that never decide anything: because nobody is meant by them, or because an earlier rule has taken
// everything that they are about.
#include "site/draft.h"

#include <algorithm>
#include <bitset>
#include <cctype>
#include <fmt/format.h>
#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>

namespace lanepool::site {

namespace {

using Numbers = std::vector<uint32_t>; // sorted

// Names as numbers: comparing all rules with all others compares many of them.
class Numbering {
  public:
    Numbers numbers(const auto& names) {
        Numbers result;
        for (const std::string_view name : names)
            result.push_back(numbers_.emplace(name, static_cast<uint32_t>(numbers_.size())).first->second);
        std::ranges::sort(result);
        return result;
    }

  private:
    std::unordered_map<std::string_view, uint32_t> numbers_;
};

// Whether everything that LATER means is meant by EARLIER; none is all.
bool covers(const Numbers& earlier, const Numbers& later) {
    if (earlier.empty()) return true;
    return !later.empty() && earlier.size() >= later.size() && std::ranges::includes(earlier, later);
}

std::string lower(std::string_view text) {
    std::string result(text);
    std::ranges::transform(result, result.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return result;
}

// Whether every device that NARROW selects is selected by WIDE, as far as the selectors alone tell. Their
// models are in lower case.
bool covers(const pool::Selector& wide, const pool::Selector& narrow) {
    return (wide.device.empty() || wide.device == narrow.device) &&
           (wide.kind.empty() || wide.kind == narrow.kind) &&
           (wide.host.empty() || wide.host == narrow.host) &&
           narrow.model.find(wide.model) != std::string::npos &&
           (wide.vendor_id == 0 || wide.vendor_id == narrow.vendor_id) &&
           (wide.device_id == 0 || wide.device_id == narrow.device_id) &&
           wide.least_capacity_bytes <= narrow.least_capacity_bytes;
}

bool covers(const pool::DeviceClass& wide, const pool::DeviceClass& narrow) {
    return std::ranges::all_of(narrow.any_of, [&](const auto& selector) {
        return std::ranges::any_of(wide.any_of, [&](const auto& other) { return covers(other, selector); });
    });
}

using ClassSet = std::bitset<256>; // as many as a site may have

// Which classes lie within which.
class Containment {
  public:
    explicit Containment(std::vector<pool::DeviceClass> classes) {
        classes.resize(std::min(classes.size(), ClassSet().size()));
        for (auto& device_class : classes)
            for (auto& selector : device_class.any_of)
                selector.model = lower(selector.model);
        for (size_t i = 0; i < classes.size(); ++i) {
            auto& [number, within] = classes_[classes[i].name];
            number = i;
            for (size_t j = 0; j < classes.size(); ++j)
                within[j] = covers(classes[i], classes[j]);
        }
    }

    // What is named, and everything within it. None is all.
    ClassSet wide(const std::vector<std::string>& names) const {
        ClassSet result;
        if (names.empty()) return result.set();
        for (const auto& name : names)
            if (const auto found = classes_.find(name); found != classes_.end())
                result |= found->second.within;
        return result;
    }
    // What is named itself.
    ClassSet narrow(const std::vector<std::string>& names) const {
        ClassSet result;
        if (names.empty()) return result.set();
        for (const auto& name : names)
            if (const auto found = classes_.find(name); found != classes_.end())
                result.set(found->second.number);
        return result;
    }

  private:
    struct Known {
        size_t number = 0;
        ClassSet within;
    };
    std::map<std::string, Known, std::less<>> classes_;
};

struct Classes {
    bool all = false;
    ClassSet wide;
    ClassSet narrow;

    Classes(const Containment& containment, const std::vector<std::string>& names)
        : all(names.empty()), wide(containment.wide(names)), narrow(containment.narrow(names)) {}
    bool covers(const Classes& later) const { return all || (!later.all && (later.narrow & ~wide).none()); }
};

// Whom and what a rule is about. Users have one tenant each, so naming users names their tenants, too.
struct Scope {
    Numbers tenants;
    Numbers users;
    Numbers hosts;
    Classes classes;
    bool nobody = false; // none of its users is of its tenants
};

class Scopes {
  public:
    explicit Scopes(const pool::Site& site) : classes_(site.classes) {
        for (const auto& user : site.users)
            tenant_of_.emplace(user.name, user.tenant);
    }

    Scope scope(const pool::Rule& rule) {
        Scope result{tenants_.numbers(rule.tenants), users_.numbers(rule.users), hosts_.numbers(rule.hosts),
                     Classes(classes_, rule.classes)};
        if (rule.users.empty()) return result;
        const std::unordered_set<std::string_view> meant(rule.tenants.begin(), rule.tenants.end());
        std::vector<std::string_view> users;
        std::set<std::string_view> tenants;
        for (const auto& user : rule.users) {
            const auto found = tenant_of_.find(user);
            const std::string_view tenant = found == tenant_of_.end() ? "" : found->second;
            if (!meant.empty() && !meant.contains(tenant)) continue;
            users.push_back(user);
            tenants.insert(tenant);
        }
        result.nobody = users.empty();
        result.users = users_.numbers(users);
        result.tenants = tenants_.numbers(tenants);
        return result;
    }

    const Containment& classes() const { return classes_; }

  private:
    std::unordered_map<std::string_view, std::string_view> tenant_of_;
    Numbering tenants_;
    Numbering users_;
    Numbering hosts_;
    Containment classes_;
};

bool takes_all(const Scope& earlier, const Scope& later) {
    return !earlier.nobody && covers(earlier.tenants, later.tenants) && covers(earlier.users, later.users) &&
           covers(earlier.hosts, later.hosts) && earlier.classes.covers(later.classes);
}

void check_failures(const Draft& draft, const Containment& containment, Problems& problems) {
    std::vector<Classes> seen;
    for (size_t i = 0; i < draft.failures.size(); ++i) {
        seen.emplace_back(containment, draft.site.failures[i].classes);
        for (size_t j = 0; j < i; ++j) {
            if (!draft.failures[i].whole || !draft.failures[j].whole || !seen[j].covers(seen[i])) continue;
            problems.add(
                draft.failures[i].at,
                fmt::format("this failure never counts: the one at line {} is about all of its classes, "
                            "and the first counts; put this one before it, or remove it",
                            draft.failures[j].at.line));
            break;
        }
    }
}

} // namespace

void check_rules(const Draft& draft, Problems& problems) {
    const auto& rules = draft.site.rules;
    Scopes scopes(draft.site);
    std::vector<Scope> seen;
    for (size_t i = 0; i < rules.size(); ++i) {
        seen.push_back(scopes.scope(rules[i]));
        const Entry& entry = draft.rules[i];
        if (!entry.whole) continue;
        if (seen[i].nobody) {
            problems.add(
                entry.at,
                fmt::format(
                    "rule '{}' fits nobody: none of its users is of its tenants; write tenants = \"*\", or "
                    "users of these tenants",
                    rules[i].name));
            continue;
        }
        for (size_t j = 0; j < i; ++j) {
            if (!draft.rules[j].whole || !takes_all(seen[j], seen[i])) continue;
            problems.add(
                entry.at,
                fmt::format(
                    "rule '{}' never decides: rule '{}' at line {} takes everything that it is about, and "
                    "the first that fits decides; put this one before it, or remove it",
                    rules[i].name, rules[j].name, draft.rules[j].at.line));
            break;
        }
    }
    check_failures(draft, scopes.classes(), problems);
}

} // namespace lanepool::site
