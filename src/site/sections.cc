// SPDX-License-Identifier: Apache-2.0
#include "pool/input.h"
#include "site/draft.h"
#include "site/table_reader.h"

#include <algorithm>
#include <fmt/format.h>

namespace lanepool::site {

namespace {

constexpr int64_t day_s = 24 * 3600;
constexpr size_t most_tenants = 4096;
constexpr size_t most_users = 10'000;
constexpr size_t most_hosts = 4096;
constexpr size_t most_classes = 256;
constexpr size_t most_rules = 1024;
constexpr size_t most_failures = 256;
constexpr size_t most_reservations = 256;
constexpr size_t most_places = 8; // in a location

void refer(Draft& draft, Named kind, const std::vector<PlacedName>& names, const std::string& by,
           std::vector<std::string>& into) {
    for (const auto& [name, at] : names) {
        into.push_back(name);
        draft.references.push_back({kind, name, at, by});
    }
}

// Renames READER by the table's own name: "rule 'night'".
std::string own_name(TableReader& reader, std::string_view noun, std::string_view example) {
    std::string name = reader.needed_name("name", example);
    if (!name.empty()) reader.call_it(fmt::format("{} '{}'", noun, name));
    return name;
}

void read_tenant(const Value& table, Draft& draft, Problems& problems) {
    const size_t before = problems.count();
    TableReader reader(table, "this tenant", problems);
    pool::Tenant tenant;
    tenant.name = own_name(reader, "tenant", "\"research\"");
    tenant.share = static_cast<uint32_t>(reader.number("share", 1, 1000, tenant.share));
    tenant.most_loans = static_cast<uint32_t>(reader.number("most_loans", 1, 200'000, tenant.most_loans));
    reader.finish();
    draft.site.tenants.push_back(tenant);
    draft.tenants.push_back({reader.at(), problems.count() == before});
}

void read_user(const Value& table, Draft& draft, Problems& problems) {
    const size_t before = problems.count();
    TableReader reader(table, "this user", problems);
    pool::User user;
    user.name = own_name(reader, "user", "\"eve\"");
    user.tenant = reader.name("tenant", "\"research\"");
    if (!user.tenant.empty())
        draft.references.push_back({Named::tenant, user.tenant, reader.at("tenant"), reader.what()});
    constexpr std::array roles{pool::Role::user, pool::Role::operator_, pool::Role::admin};
    user.role = roles[reader.choice("role", {"user", "operator", "admin"})];
    reader.finish();
    draft.site.users.push_back(user);
    draft.users.push_back({reader.at(), problems.count() == before});
}

std::vector<std::string> read_location(TableReader& reader) {
    constexpr std::string_view example = R"(["row 1", "rack 3", "switch 0"])";
    std::vector<std::string> location;
    const auto* list = reader.find("location", Value::Kind::list, example);
    if (!list) return location;
    if (list->items.size() > most_places)
        reader.problem(list->at,
                       fmt::format("{}: location has {} places; write at most {}, the outermost first",
                                   reader.what(), list->items.size(), most_places));
    for (const auto& item : list->items) {
        if (location.size() == most_places) break;
        if (item.kind == Value::Kind::text && !item.text.empty() &&
            pool::limited(item.text, pool::longest_name) == item.text)
            location.push_back(item.text);
        else
            reader.problem(
                item.at, fmt::format("{}: a place in location is no text of 1 to {} bytes; write it like {}",
                                     reader.what(), pool::longest_name, example));
    }
    return location;
}

void read_host(const Value& table, Draft& draft, Problems& problems) {
    const size_t before = problems.count();
    TableReader reader(table, "this host", problems);
    pool::HostRule host;
    host.name = own_name(reader, "host", "\"store1\"");
    host.location = read_location(reader);
    host.lends = reader.flag("lends", true);
    host.borrows = reader.flag("borrows", true);
    reader.finish();
    draft.site.hosts.push_back(host);
    draft.hosts.push_back({reader.at(), problems.count() == before});
}

// Modes, the one that is taken by default first.
void read_dma(TableReader& reader, pool::Rule& rule) {
    constexpr std::string_view example = R"(["bounce", "iommu"])";
    const auto* list = reader.find("dma", Value::Kind::list, example);
    if (!list) return;
    rule.dma.clear();
    for (const auto& item : list->items) {
        const auto mode = item.kind == Value::Kind::text ? pool::dma_mode(item.text) : std::nullopt;
        if (!mode || *mode == pool::DmaMode::none)
            reader.problem(item.at,
                           fmt::format("{}: a mode in dma is {}; write \"bounce\", \"iommu\" or "
                                       "\"direct\"",
                                       reader.what(),
                                       item.kind == Value::Kind::text ? in_quotes(item.text) : "no text"));
        else if (std::ranges::find(rule.dma, *mode) != rule.dma.end())
            reader.problem(item.at, fmt::format("{}: dma names {} twice; write each mode once", reader.what(),
                                                in_quotes(item.text)));
        else
            rule.dma.push_back(*mode);
    }
    if (list->items.empty())
        reader.problem(list->at,
                       fmt::format("{}: dma is empty; write the modes that are allowed, the default "
                                   "first, like {}",
                                   reader.what(), example));
}

// How long, how many and with which priority: what a rule that allows says.
void read_terms(TableReader& reader, pool::Rule& rule) {
    const int64_t longest = pool::Options().longest_loan_s;
    rule.longest_s = reader.duration_s("longest", 1, longest, 0);
    rule.default_s = reader.duration_s("default", 1, longest, rule.longest_s);
    if (rule.longest_s != 0 && rule.default_s > rule.longest_s)
        reader.problem(
            reader.at("default"),
            fmt::format("{}: default is longer than longest; write at most the same", reader.what()));
    rule.most_loans = static_cast<uint32_t>(reader.number("most_loans", 1, 200'000, 0));
    rule.priority = static_cast<int32_t>(reader.number("priority", -1000, 1000, 0));
    rule.highest_priority =
        static_cast<int32_t>(reader.number("highest_priority", -1000, 1000, rule.priority));
    if (rule.highest_priority < rule.priority)
        reader.problem(reader.at("highest_priority"),
                       fmt::format("{}: highest_priority is {}, below priority; write {} or more, up to 1000",
                                   reader.what(), rule.highest_priority, rule.priority));
    rule.preempts = reader.flag("preempts", false);
    rule.preemptible = reader.flag("preemptible", false);
    rule.grace_s = reader.duration_s("grace", 0, day_s, rule.grace_s);
    rule.sanitize = reader.flag("sanitize", true);
    rule.needs_iommu = reader.flag("needs_iommu", false);
    rule.needs_qualification = reader.flag("needs_qualification", false);
    read_dma(reader, rule);
}

void read_rule(const Value& table, Draft& draft, Problems& problems) {
    const size_t before = problems.count();
    TableReader reader(table, "this rule", problems);
    pool::Rule rule;
    rule.name = own_name(reader, "rule", "\"night\"");
    refer(draft, Named::tenant, reader.names_or_all("tenants"), reader.what(), rule.tenants);
    refer(draft, Named::user, reader.names_or_all("users"), reader.what(), rule.users);
    refer(draft, Named::borrower, reader.names_or_all("hosts"), reader.what(), rule.hosts);
    refer(draft, Named::device_class, reader.names_or_all("classes"), reader.what(), rule.classes);
    rule.allow = reader.flag("allow", true);
    read_terms(reader, rule);
    reader.finish();
    if (!rule.allow)
        for (const auto& member : table.members)
            if (static constexpr std::array<std::string_view, 6> useful{"name", "tenants", "users", "hosts",
                                                                        "classes", "allow"};
                std::ranges::find(useful, member.key) == useful.end())
                problems.add(member.at, fmt::format("{} refuses, so {} has no effect; leave it out",
                                                    reader.what(), in_quotes(member.key)));
    draft.site.rules.push_back(rule);
    draft.rules.push_back({reader.at(), problems.count() == before});
}

// KEY belongs to CHOICE = "WORD" alone, and has to stand there.
void check_companion(TableReader& reader, std::string_view key, bool wanted, std::string_view choice,
                     std::string_view word, std::string_view example) {
    if (wanted && !reader.has(key))
        reader.problem(reader.at(choice), fmt::format("{}: {} is \"{}\", but there is no {}; write {} = {}",
                                                      reader.what(), choice, word, key, key, example));
    if (!wanted && reader.has(key))
        reader.problem(reader.at(key),
                       fmt::format("{}: {} has no effect without {} = \"{}\"; write that, or leave {} out",
                                   reader.what(), key, choice, word, key));
}

void read_failure(const Value& table, Draft& draft, Problems& problems) {
    const size_t before = problems.count();
    TableReader reader(table, "this failure", problems);
    pool::FailureRule failure;
    refer(draft, Named::device_class, reader.names_or_all("classes"), "a failure", failure.classes);
    constexpr std::array on_crash{pool::OnBorrowerCrash::reclaim, pool::OnBorrowerCrash::wait};
    failure.on_borrower_crash = on_crash[reader.choice("on_borrower_crash", {"reclaim", "wait"})];
    failure.wait_s = reader.duration_s("wait", 1, 30 * day_s, 0);
    check_companion(reader, "wait", failure.on_borrower_crash == pool::OnBorrowerCrash::wait,
                    "on_borrower_crash", "wait", "\"10m\"");
    constexpr std::array on_due{pool::OnMissedDue::give_back, pool::OnMissedDue::reclaim};
    failure.on_missed_due = on_due[reader.choice("on_missed_due", {"give_back", "reclaim"})];
    constexpr std::array on_reset{pool::OnFailedReset::quarantine, pool::OnFailedReset::retry};
    failure.on_failed_reset = on_reset[reader.choice("on_failed_reset", {"quarantine", "retry"})];
    failure.reset_retries = static_cast<uint32_t>(reader.number("reset_retries", 1, 10, 0));
    check_companion(reader, "reset_retries", failure.on_failed_reset == pool::OnFailedReset::retry,
                    "on_failed_reset", "retry", "3");
    reader.finish();
    draft.site.failures.push_back(failure);
    draft.failures.push_back({reader.at(), problems.count() == before});
}

using ReadEntry = void (*)(const Value&, Draft&, Problems&);

void read_list(TableReader& reader, std::string_view key, size_t most, ReadEntry read, Draft& draft,
               Problems& problems) {
    for (const auto* table : reader.tables(key, most, fmt::format("[[{}]] above each", key)))
        read(*table, draft, problems);
}

void read_classes(TableReader& reader, Draft& draft, Problems& problems) {
    const auto* classes = reader.find("class", Value::Kind::table, "{}");
    if (!classes) return;
    if (classes->members.size() > most_classes) {
        problems.add(classes->at, fmt::format("there are {} classes; at most {} are taken",
                                              classes->members.size(), most_classes));
        return;
    }
    for (const auto& member : classes->members)
        read_class(member, draft, problems);
}

} // namespace

Draft read_sections(const Value& document, Problems& problems) {
    Draft draft;
    TableReader reader(document, "a site file", problems);
    draft.site.warn_before_due_s =
        reader.duration_s("warn_before_due", 0, 7 * day_s, draft.site.warn_before_due_s);
    read_list(reader, "tenant", most_tenants, read_tenant, draft, problems);
    read_list(reader, "user", most_users, read_user, draft, problems);
    read_list(reader, "host", most_hosts, read_host, draft, problems);
    read_classes(reader, draft, problems);
    read_list(reader, "rule", most_rules, read_rule, draft, problems);
    read_list(reader, "failure", most_failures, read_failure, draft, problems);
    read_list(reader, "reservation", most_reservations, read_reservation, draft, problems);
    reader.finish();
    return draft;
}

} // namespace lanepool::site
