// SPDX-License-Identifier: Apache-2.0
#include "pool/policy.h"

#include <algorithm>
#include <vector>

namespace lanepool::pool {

namespace {
Rule rule_without_a_site() {
    Rule rule;
    rule.highest_priority = highest_priority;
    return rule;
}

template <class Named>
std::map<std::string, const Named*, std::less<>> by_name(const std::vector<Named>& all) {
    std::map<std::string, const Named*, std::less<>> index;
    for (const Named& one : all)
        index.emplace(one.name, &one);
    return index;
}

template <class Value>
const Value* find(const std::map<std::string, const Value*, std::less<>>& index, std::string_view name) {
    const auto found = index.find(name);
    return found == index.end() ? nullptr : found->second;
}

// An empty list is everybody.
bool lists(const std::vector<std::string>& names, std::string_view name) {
    return names.empty() || std::find(names.begin(), names.end(), name) != names.end();
}

std::string_view role_name(Role role) {
    switch (role) {
    case Role::user:
        return "user";
    case Role::operator_:
        return "operator";
    case Role::admin:
        return "admin";
    }
    return "unknown";
}

std::string of_tenant(const Who& who) {
    const std::string name = who.full_name();
    return who.tenant.empty() ? name : fmt::format("{} of tenant {}", name, who.tenant);
}

std::string any_or(const std::vector<std::string>& names, std::string_view what) {
    return names.empty() ? fmt::format("any {}", what) : fmt::format("{} {}", what, fmt::join(names, ", "));
}
} // namespace

Policy::Policy(Site site)
    : site_(std::move(site)), everything_(rule_without_a_site()), users_(by_name(site_.users)),
      tenants_(by_name(site_.tenants)), hosts_(by_name(site_.hosts)), classes_(by_name(site_.classes)),
      rules_(by_name(site_.rules)) {}

// ---- who it is

Who Policy::who(const Caller& caller) const {
    Who who{caller.user,    {}, caller.certified.value_or(Role::user), caller.owner, caller.certified,
            caller.agent_of};
    if (const User* user = find(users_, caller.user)) {
        who.tenant = user->tenant;
        who.role = caller.certified ? std::min(user->role, *caller.certified) : user->role;
    }
    return who;
}

Who Policy::requester(const Loan& loan) const {
    const std::string at_host = "@" + loan.borrower;
    std::string user = loan.requested_by;
    const bool by_agent = loan.access_model == AccessModel::smartio && user.ends_with(at_host);
    if (by_agent) user.resize(user.size() - at_host.size());
    return who({user, false, Role::user, by_agent ? loan.borrower : std::string()});
}

Result<> Policy::check_agent(const Who& who, AccessModel model, const std::string& host,
                             std::string_view what) const {
    if (who.agent_of.empty() || (model == AccessModel::smartio && host == who.agent_of)) return {};
    return fail(
        Errc::permission_denied,
        "the agent of host {} may not {} in the name of {}: it asks for users of its own host, and for "
        "loans of access model smartio to it; ask by `lanepool`",
        who.agent_of, what, who.user);
}

Result<> Policy::check_role(const Who& who, Role least, std::string_view what) const {
    if (who.may_act_as(least)) return {};
    if (who.certified && *who.certified < least)
        return fail(Errc::permission_denied,
                    "{} may not {}: that takes the role {}, and the certificate is {} {}'s; ask one, or have "
                    "such a certificate issued",
                    of_tenant(who), what, role_name(least), *who.certified == Role::user ? "a" : "an",
                    role_name(*who.certified));
    return fail(Errc::permission_denied, "{} may not {}: that takes the role {} in the site file; ask one",
                of_tenant(who), what, role_name(least));
}

Result<> Policy::check_tenant(const Who& who, const Loan& loan, std::string_view what) const {
    if (who.may_act_as(Role::operator_) || loan.tenant == who.tenant) return {};
    return fail(Errc::permission_denied, "{} may not {} loan {}: it is {}; ask {} or an operator",
                of_tenant(who), what, loan.id,
                loan.tenant.empty() ? "of no tenant" : "tenant " + loan.tenant + "'s", loan.requested_by);
}

// ---- what the site says

const HostRule* Policy::host(std::string_view name) const { return find(hosts_, name); }

bool Policy::lends(std::string_view name) const {
    const HostRule* rule = host(name);
    return !rule || rule->lends;
}

bool Policy::borrows(std::string_view name) const {
    const HostRule* rule = host(name);
    return !rule || rule->borrows;
}

uint32_t Policy::most_loans(const std::string& name) const {
    const Tenant* tenant = find(tenants_, name);
    return tenant ? tenant->most_loans : 0;
}

bool Policy::is_in(std::string_view device_class, const Device& device) const {
    const DeviceClass* found = find(classes_, device_class);
    return found && std::any_of(found->any_of.begin(), found->any_of.end(),
                                [&](const Selector& selector) { return selects(selector, device); });
}

const FailureRule& Policy::failure_rule(const Device& device) const {
    for (const FailureRule& rule : site_.failures)
        if (rule.classes.empty() || std::any_of(rule.classes.begin(), rule.classes.end(),
                                                [&](const auto& name) { return is_in(name, device); }))
            return rule;
    return ordinary_;
}

const Rule* Policy::rule_for(const Who& who, const std::string& host, const Device& device) const {
    if (site_.rules.empty()) return &everything_;
    for (const Rule& rule : site_.rules)
        if (lists(rule.tenants, who.tenant) && lists(rule.users, who.user) && lists(rule.hosts, host) &&
            (rule.classes.empty() || std::any_of(rule.classes.begin(), rule.classes.end(),
                                                 [&](const auto& name) { return is_in(name, device); })))
            return &rule;
    return nullptr;
}

// What the rules would let him have, for somebody who was refused.
std::string Policy::allowances(const Who& who) const {
    constexpr size_t most = 4;
    std::vector<std::string> found;
    for (const Rule& rule : site_.rules) {
        if (!rule.allow || !lists(rule.tenants, who.tenant) || !lists(rule.users, who.user)) continue;
        if (found.size() == most) {
            found.emplace_back("and more");
            break;
        }
        found.push_back(fmt::format("{} for {} (rule {})", any_or(rule.classes, "class"),
                                    any_or(rule.hosts, "host"), rule.name));
    }
    return found.empty() ? "nothing" : fmt::format("{}", fmt::join(found, "; "));
}

// ---- whether it may be

Result<const Rule*> Policy::admit(const Who& who, const std::string& host, const Device& device) const {
    const Rule* rule = rule_for(who, host, device);
    if (who.owner) return rule && rule->allow ? rule : &everything_;
    if (!lends(device.host))
        return fail(Errc::permission_denied,
                    "device {} ({}) is not lent: the site file says that host {} does not lend; take another",
                    device.fdid, device.full_name(), device.host);
    if (!borrows(host))
        return fail(Errc::permission_denied,
                    "host {} may not borrow: the site file says so; choose another host", host);
    if (!rule)
        return fail(Errc::permission_denied,
                    "no rule of the site lets {} borrow device {} ({}) for host {}; he may have: {}; choose "
                    "one of these, or ask an admin",
                    of_tenant(who), device.fdid, device.full_name(), host, allowances(who));
    if (!rule->allow)
        return fail(Errc::permission_denied,
                    "rule {} does not let {} borrow device {} ({}) for host {}; he may have: {}; choose one "
                    "of these, or ask an admin",
                    rule->name, of_tenant(who), device.fdid, device.full_name(), host, allowances(who));
    if (rule->needs_iommu && !device.iommu)
        return fail(Errc::failed_precondition,
                    "rule {} wants devices that an IOMMU isolates, and device {} ({}) is not: host {} has no "
                    "IOMMU in use; enable it there, or take another device",
                    rule->name, device.fdid, device.full_name(), device.host);
    if (rule->needs_qualification && !device.qualified)
        return fail(
            Errc::failed_precondition,
            "rule {} wants qualified devices, and device {} ({}) is not; have it qualified, or take another",
            rule->name, device.fdid, device.full_name());
    return rule;
}

Result<int64_t> Policy::duration_s(const Who& who, const Rule& rule, std::optional<int64_t> asked) const {
    const int64_t wanted = asked.value_or(rule.default_s);
    if (who.owner || rule.longest_s == 0 || (wanted > 0 && wanted <= rule.longest_s)) return wanted;
    // A rule whose loans end has no default only if its longest is the default.
    if (!asked && rule.default_s == 0) return rule.longest_s;
    return fail(Errc::out_of_range, "rule {} lets a loan last {} s at most, not {}; ask for less, and renew",
                rule.name, rule.longest_s, wanted == 0 ? "without end" : fmt::format("{} s", wanted));
}

Result<int32_t> Policy::priority(const Who& who, const Rule& rule, std::optional<int32_t> asked) const {
    const int32_t wanted = asked.value_or(rule.priority);
    const int32_t most = who.owner ? highest_priority : std::max(rule.highest_priority, rule.priority);
    if (wanted >= -highest_priority && wanted <= most) return wanted;
    return fail(Errc::out_of_range, "{} allows priorities from {} to {}, not {}; ask for one of these",
                rule.name.empty() ? "the pool" : "rule " + rule.name, -highest_priority, most, wanted);
}

namespace {
bool has(const std::vector<DmaMode>& modes, DmaMode mode) {
    return std::find(modes.begin(), modes.end(), mode) != modes.end();
}

std::string text_of(const std::vector<DmaMode>& modes) {
    std::vector<std::string_view> names;
    for (const DmaMode mode : modes)
        names.push_back(name(mode));
    return names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "));
}

std::string rule_or_pool(const Rule& rule) { return rule.name.empty() ? "the pool" : "rule " + rule.name; }
} // namespace

Result<> Policy::check_dma(const Who& who, const Rule& rule, DmaMode asked) const {
    if (who.owner || asked == DmaMode::none || has(rule.dma, asked)) return {};
    return fail(
        Errc::permission_denied,
        "{} does not let a host's own kernel borrow in DMA mode {}, but in: {}; ask for one of these, "
        "or ask an admin",
        rule_or_pool(rule), name(asked), text_of(rule.dma));
}

Result<DmaMode> Policy::dma(const Who& who, const Rule& rule, const Host& host, DmaMode asked) const {
    TRY(check_dma(who, rule, asked));
    if (host.dma_modes.empty())
        return fail(Errc::failed_precondition,
                    "host {} cannot borrow with its own kernel: there is no lanepool_bridge; load the module "
                    "there, or name a guest",
                    host.name);
    if (asked != DmaMode::none) {
        if (has(host.dma_modes, asked)) return asked;
        return fail(Errc::failed_precondition,
                    "host {} does not offer DMA mode {}, but: {}; ask for one of these", host.name,
                    name(asked), text_of(host.dma_modes));
    }
    for (const DmaMode mode : rule.dma)
        if (has(host.dma_modes, mode)) return mode;
    if (who.owner) return host.dma_modes.front();
    return fail(Errc::failed_precondition,
                "host {} offers its own kernel the DMA modes {}, and {} allows {}; name a guest, or ask an "
                "admin",
                host.name, text_of(host.dma_modes), rule_or_pool(rule), text_of(rule.dma));
}

const Rule& Policy::rule_of(const Loan& loan) const {
    const Rule* rule = find(rules_, loan.rule);
    return rule ? *rule : everything_;
}

// ---- what has changed

namespace {
template <class Value>
void note_changes(std::string& text, std::string_view what, const std::vector<Value>& before,
                  const std::vector<Value>& now) {
    if (before == now) return;
    const auto is_missing_in = [](const std::vector<Value>& from) {
        return
            [&from](const Value& value) { return std::find(from.begin(), from.end(), value) == from.end(); };
    };
    const auto gone = std::count_if(before.begin(), before.end(), is_missing_in(now));
    const auto come = std::count_if(now.begin(), now.end(), is_missing_in(before));
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", what,
                        gone == 0 && come == 0 ? "reordered" : fmt::format("-{} +{}", gone, come));
}
} // namespace

std::string Policy::changes_since(const Policy& before) const {
    std::string text;
    note_changes(text, "tenants", before.site_.tenants, site_.tenants);
    note_changes(text, "users", before.site_.users, site_.users);
    note_changes(text, "hosts", before.site_.hosts, site_.hosts);
    note_changes(text, "classes", before.site_.classes, site_.classes);
    note_changes(text, "rules", before.site_.rules, site_.rules);
    note_changes(text, "failure rules", before.site_.failures, site_.failures);
    note_changes(text, "reservations", before.site_.reservations, site_.reservations);
    if (before.site_.warn_before_due_s != site_.warn_before_due_s)
        text += fmt::format("{}warning {} s before, was {} s", text.empty() ? "" : ", ",
                            site_.warn_before_due_s, before.site_.warn_before_due_s);
    return text.empty() ? "nothing has changed" : text;
}

} // namespace lanepool::pool
