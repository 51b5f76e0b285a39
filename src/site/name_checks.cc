// SPDX-License-Identifier: Apache-2.0
//
// Names that are given twice, and names that refer to nothing.
#include "site/draft.h"
#include "site/table_reader.h"

#include <array>
#include <fmt/format.h>
#include <unordered_map>
#include <unordered_set>

namespace lanepool::site {

namespace {

template <class T>
void check_duplicates(std::string_view noun, const std::vector<T>& things, const std::vector<Entry>& entries,
                      Problems& problems) {
    std::unordered_map<std::string_view, Position> first;
    for (size_t i = 0; i < things.size(); ++i) {
        if (things[i].name.empty()) continue; // reported already
        const auto [found, added] = first.emplace(things[i].name, entries[i].at);
        if (!added)
            problems.add(
                entries[i].at,
                fmt::format("{} '{}' is already at line {}; give this one another name, or remove it", noun,
                            things[i].name, found->second.line));
    }
}

// What can be referred to by one kind of name.
struct Known {
    std::string_view noun;
    std::string_view how_to_add;
    std::unordered_set<std::string_view> names;

    template <class T>
    Known(std::string_view called, std::string_view add, const std::vector<T>& things)
        : noun(called), how_to_add(add) {
        for (const auto& thing : things)
            names.insert(thing.name);
    }
};

void check_reference(const Reference& reference, const Known& known, Problems& problems) {
    if (known.names.contains(reference.name)) return;
    std::string better;
    if (!problems.full())
        better = suggestion(reference.name, {known.names.begin(), known.names.end()},
                            fmt::format("add {}, or name one that is there", known.how_to_add));
    problems.add(reference.at,
                 fmt::format("{}: there is no {} '{}'{}", reference.by, known.noun, reference.name, better));
}

// Hosts that may not do what is asked of them here.
void check_part(const Reference& reference,
                const std::unordered_map<std::string_view, const pool::HostRule*>& hosts,
                Problems& problems) {
    const auto found = hosts.find(reference.name);
    if (found == hosts.end()) return;
    if (reference.kind == Named::lender && !found->second->lends)
        problems.add(reference.at,
                     fmt::format("{}: host '{}' does not lend; give it lends = true, or name another",
                                 reference.by, reference.name));
    if (reference.kind == Named::borrower && !found->second->borrows)
        problems.add(reference.at,
                     fmt::format("{}: host '{}' does not borrow; give it borrows = true, or name another",
                                 reference.by, reference.name));
}

} // namespace

void check_names(const Draft& draft, Problems& problems) {
    const auto& site = draft.site;
    check_duplicates("tenant", site.tenants, draft.tenants, problems);
    check_duplicates("user", site.users, draft.users, problems);
    check_duplicates("host", site.hosts, draft.hosts, problems);
    check_duplicates("rule", site.rules, draft.rules, problems);
    check_duplicates("reservation", site.reservations, draft.reservations, problems);

    const Known tenants("tenant", "a [[tenant]]", site.tenants);
    const Known users("user", "a [[user]]", site.users);
    const Known hosts("host", "a [[host]]", site.hosts);
    const Known classes("class", "a [class.NAME]", site.classes);
    std::unordered_map<std::string_view, const pool::HostRule*> host_rules;
    for (const auto& host : site.hosts)
        host_rules.emplace(host.name, &host);
    for (const auto& reference : draft.references) {
        switch (reference.kind) {
        case Named::tenant:
            check_reference(reference, tenants, problems);
            break;
        case Named::user:
            check_reference(reference, users, problems);
            break;
        case Named::lender:
        case Named::borrower:
            check_reference(reference, hosts, problems);
            check_part(reference, host_rules, problems);
            break;
        case Named::device_class:
            check_reference(reference, classes, problems);
            break;
        }
    }
}

} // namespace lanepool::site
