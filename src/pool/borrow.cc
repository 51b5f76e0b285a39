// SPDX-License-Identifier: Apache-2.0
//
// Whether somebody may have what he asks for, and whether he can have it now.
#include "pool/pool.h"

#include <algorithm>
#include <set>

namespace lanepool::pool {

namespace {
// For a wish that many devices would do for: how many are tried in order to find one that is free, once there
// is one that he may have at all.
constexpr size_t most_tried = 64;
} // namespace

Result<std::vector<LoanId>> Pool::borrow(const BorrowRequest& request, Now now) {
    const Caller caller = asker(request.caller, request.host);
    begin(now, caller);
    auto loans = try_borrow(request, who(caller));
    if (!loans)
        audit_refusal("borrow", request.devices.empty() ? std::string_view() : request.devices.front().device,
                      loans.error());
    settle_groups();
    return loans;
}

Result<std::vector<LoanId>> Pool::try_borrow(const BorrowRequest& request, const Who& who) {
    Plan plan = TRY(this->plan(request, who, now_, false));
    if (plan.not_now && request.wait_s == 0) return tl::unexpected<Error>(*plan.not_now);
    std::vector<LoanId> loans;
    for (Loan& wish : plan.wishes) {
        if (plan.not_now) {
            wish.reason = limited(plan.not_now->message());
            if (request.wait_s != BorrowRequest::wait_for_ever_s) {
                wish.wait_until_us = now_.unix_us + request.wait_s * 1'000'000;
                wish.wait_until_steady_us = now_.steady_us + request.wait_s * 1'000'000;
            }
        }
        const std::string what = describe(wish.wanted);
        loans.push_back(add_loan(std::move(wish), loans.empty() ? LoanId() : loans.front(), what));
    }
    if (plan.joins)
        join(loans.front(), *plan.joins);
    else if (plan.not_now)
        wants_decision();
    else
        for (Start& one : plan.starts)
            one.loan = loans[one.loan.value - 1];
    start_group(plan.starts);
    return loans;
}

Explanation Pool::explain(const BorrowRequest& request, Now now) const {
    Explanation explanation;
    const auto plan = this->plan(request, who(asker(request.caller, request.host)), now, true);
    if (!plan) {
        explanation.why.push_back(plan.error().message());
        return explanation;
    }
    explanation.allowed = true;
    explanation.now = !plan->not_now;
    for (const Start& one : plan->starts)
        explanation.devices.push_back(one.fdid);
    if (plan->joins) explanation.devices.push_back(*plan->joins);
    if (plan->not_now) explanation.why.push_back(plan->not_now->message());
    explanation.why.insert(explanation.why.end(), plan->why.begin(), plan->why.end());
    return explanation;
}

// ---- what it comes to

namespace {
// DMA: in which mode the host's own kernel has it.
std::string terms_of(const Loan& wish, DmaMode dma) {
    const std::string receiver =
        dma == DmaMode::none
            ? std::string()
            : fmt::format(", by host {}'s own kernel in DMA mode {} ({})", wish.borrower, name(dma),
                          wish.dma == DmaMode::none ? "the first that is allowed and offered" : "asked for");
    return fmt::format("{}: {}, priority {}, {}{}", describe(wish.wanted),
                       wish.rule.empty()          ? std::string("the site has no rules")
                       : wish.rule == owners_rule ? std::string("asked for by the owner of the pool")
                                                  : "allowed by rule " + wish.rule,
                       wish.priority,
                       wish.duration_s ? fmt::format("for {} s", wish.duration_s) : "without a due time",
                       receiver);
}
} // namespace

// EXPLAINS: somebody wants to know all that is in the way.
Result<Pool::Plan> Pool::plan(const BorrowRequest& request, const Who& who, Now now, bool explains) const {
    TRY(policy_->check_agent(who, request.access_model, request.host, "borrow"));
    TRY(check_request(request));
    Plan plan;
    std::set<std::string> named;
    for (const Selector& selector : request.devices) {
        plan.wishes.push_back(TRY(wish_for(selector, request, who, explains ? &plan.why : nullptr)));
        const Loan& wish = plan.wishes.back();
        if (!wish.wanted.device.empty() && !named.insert(wish.wanted.device).second)
            return fail(Errc::invalid_argument, "device {} is asked for twice; name each device once",
                        wish.wanted.device);
    }
    TRY(check_limits(plan.wishes, who));
    if (auto host = check_host(request.host); !host) plan.not_now = host.error();
    for (const Loan& wish : plan.wishes) {
        if (wish.wanted.device.empty() || plan.not_now) continue;
        const Device& device = *ledger_.devices.find(*find_device(wish.wanted.device));
        if (plan.wishes.size() == 1 && may_share(device, wish)) {
            if (auto joins = check_join(device, wish); !joins)
                plan.not_now = joins.error();
            else
                plan.joins = device.fdid;
            if (explains && plan.joins)
                plan.why.push_back(fmt::format("device {} is shared already, by {} loans", describe(device),
                                               ledger_.loans_on(device.fdid).size()));
            return plan;
        }
        if (auto available = check_available(device, &wish); !available) plan.not_now = available.error();
    }
    if (plan.not_now && !explains) return plan;
    Placement placement = scheduler_->place(plan.wishes, now, explains);
    plan.why.insert(plan.why.end(), placement.why.begin(), placement.why.end());
    if (!plan.not_now && placement.now) {
        plan.starts = std::move(placement.starts);
    } else if (!plan.not_now) {
        plan.not_now =
            Error(Errc::busy,
                  fmt::format("{} cannot be had now: {}; ask to wait, or for something else",
                              plan.wishes.size() == 1 ? describe(plan.wishes[0].wanted)
                                                      : fmt::format("{} devices at once", plan.wishes.size()),
                              placement.why.empty() ? "no such device is free" : placement.why.front()));
    }
    return plan;
}

Result<> Pool::check_request(const BorrowRequest& request) const {
    if (request.devices.empty() || request.devices.size() > options_.devices_per_request)
        return fail(Errc::invalid_argument, "a request for {} devices: it names 1 to {}",
                    request.devices.size(), options_.devices_per_request);
    if (request.wait_s < 0 ||
        (request.wait_s > options_.longest_loan_s && request.wait_s != BorrowRequest::wait_for_ever_s))
        return fail(Errc::out_of_range, "a wait of {} s: it can be 0 to {} s, or for ever", request.wait_s,
                    options_.longest_loan_s);
    if (request.duration_s) TRY(check_duration(*request.duration_s));
    if (request.access_model == AccessModel::vf)
        return fail(
            Errc::invalid_argument,
            "access model vf is what a lending loan of an SR-IOV function is called; ask for lending, "
            "and name the function");
    if (request.shared && request.access_model != AccessModel::smartio)
        return fail(Errc::invalid_argument,
                    "a shared loan of access model {}: a guest's driver has its device alone; only smartio "
                    "shares",
                    name(request.access_model));
    if (!request.near.empty() && !ledger_.hosts.find(request.near))
        return fail(Errc::not_found,
                    "there is no host '{}' to be near to; `lanepool hosts` shows those that are there",
                    limited(request.near, longest_name));
    return check_room(request.devices.size());
}

// WHY: where its terms are told; null: nobody asks.
Result<Loan> Pool::wish_for(const Selector& selector, const BorrowRequest& request, const Who& who,
                            std::vector<std::string>* why) const {
    if (selector.empty())
        return fail(Errc::invalid_argument,
                    "nothing is said about the device, and that means no device; name its fdid, HOST/NAME, "
                    "kind, host, model or least capacity");
    for (const std::string* text : {&selector.device, &selector.kind, &selector.host, &selector.model})
        if (text->size() > longest_text)
            return fail(Errc::invalid_argument, "a selector with a text of {} bytes: at most {} are taken",
                        text->size(), longest_text);
    Loan wish;
    wish.wanted = selector;
    wish.borrower = request.host;
    wish.near = request.near;
    wish.access_model = request.access_model;
    wish.shared = request.shared;
    wish.dma = request.dma;
    const Rule* rule = nullptr;
    if (selector.device.empty()) {
        wish.guest = TRY(check_receiver(request.host, request.guest, request.access_model, request.dma));
        rule = TRY(rule_for_any(selector, wish, who));
    } else {
        const Device& device = *ledger_.devices.find(TRY(find_device(selector.device)));
        if (!selects(selector, device))
            return fail(Errc::failed_precondition, "device {} is not what else is asked for: {}",
                        describe(device), describe(selector));
        if (is_to_system(request.access_model)) TRY(check_other_host(device, request.host));
        wish.guest = TRY(check_receiver(request.host, request.guest, request.access_model, request.dma));
        rule = TRY(policy_->admit(who, request.host, device));
        wish.wanted.device = fmt::format("{}", device.fdid);
    }
    TRY(set_terms(wish, *rule, who, request.duration_s, request.priority));
    DmaMode dma = DmaMode::none;
    if (is_to_own_kernel(wish))
        dma = TRY(policy_->dma(who, *rule, *ledger_.hosts.find(wish.borrower), wish.dma));
    if (why) why->push_back(terms_of(wish, dma));
    return wish;
}

// One rule for the whole wish: that of the first device that he may have, and rather of one that is free.
// Where no device will do, says why the first one will not.
Result<const Rule*> Pool::rule_for_any(const Selector& selector, const Loan& wish, const Who& who) const {
    const std::string& host = wish.borrower;
    const bool its_own = !is_to_system(wish.access_model); // devices will do as well
    const Rule* first = nullptr;
    std::optional<Error> refusal;
    size_t tried = 0;
    const Rule* of_free = nullptr;
    ledger_.visit_devices(selector, [&](const Device& device) {
        if (tried == most_tried) return false;
        if (first) ++tried;
        if (!selects(selector, device) || (!its_own && device.host == host)) return true;
        const auto rule = policy_->admit(who, host, device);
        if (!rule) {
            if (!refusal) refusal = rule.error();
            return true;
        }
        if (!first) first = *rule;
        // Where there are no rules all devices fall under the same.
        if (can_be_lent(device) || policy_->site().rules.empty()) of_free = *rule;
        return of_free == nullptr;
    });
    if (of_free) return of_free;
    if (first) return first;
    if (refusal) return tl::unexpected<Error>(*refusal);
    return fail(Errc::not_found, "there is no {}{}; `lanepool ls` shows the devices that are there",
                describe(selector), its_own ? std::string() : " in another host than " + host);
}

Result<> Pool::set_terms(Loan& wish, const Rule& rule, const Who& who, std::optional<int64_t> duration_s,
                         std::optional<int32_t> priority) const {
    wish.rule = who.owner ? std::string(owners_rule) : rule.name;
    wish.tenant = who.tenant;
    wish.requested_by = limited(who.full_name(), longest_asker);
    wish.preempts = rule.preempts;
    wish.preemptible = rule.preemptible;
    wish.sanitize = rule.sanitize;
    wish.grace_s = rule.grace_s;
    wish.duration_s = TRY(policy_->duration_s(who, rule, duration_s));
    wish.priority = TRY(policy_->priority(who, rule, priority));
    return {};
}

// ---- whether it may be

Result<> Pool::check_limits(const std::vector<Loan>& wishes, const Who& who) const {
    if (who.owner) return {};
    const size_t live = ledger_.live_loans_of_tenant(who.tenant);
    const uint32_t most = policy_->most_loans(who.tenant);
    if (most != 0 && live + wishes.size() > most)
        return fail(
            Errc::no_space,
            "tenant {} has {} loans and may have {} at once, {} more are asked for; return one first, "
            "or ask an admin",
            who.tenant, live, most, wishes.size());
    for (const Rule& rule : policy_->site().rules) {
        if (rule.most_loans == 0) continue;
        const auto more = static_cast<size_t>(std::count_if(
            wishes.begin(), wishes.end(), [&](const Loan& wish) { return wish.rule == rule.name; }));
        const size_t have = ledger_.live_loans_of_rule(who.tenant, rule.name);
        if (more != 0 && have + more > rule.most_loans)
            return fail(Errc::no_space,
                        "rule {} lets {} have {} loans at once; there are {}, and {} more are asked for; "
                        "return one first, or ask an admin",
                        rule.name, who.tenant.empty() ? "those without a tenant" : "tenant " + who.tenant,
                        rule.most_loans, have, more);
    }
    return {};
}

// What check_available() says, without the words.
bool Pool::can_be_lent(const Device& device) const {
    return device.state == DeviceState::available && device.draining.empty() && device.functions == 0 &&
           !device.parent_changing && ledger_.hosts.find(device.host)->draining.empty() &&
           !ledger_.loans.find(device.loan);
}

// Why nobody else gets a device that somebody has. WISH: for which it is asked; null: for none.
Error Pool::held(const Device& device, const Loan& loan, const Loan* wish) const {
    const bool ending = loan.state == LoanState::quiescing || loan.state == LoanState::detaching ||
                        loan.state == LoanState::resetting;
    const std::string_view how = ending                            ? "being taken back from"
                                 : loan.state == LoanState::active ? "lent to"
                                                                   : "on its way to";
    std::string clash;
    if (wish && is_to_system(wish->access_model) != is_to_system(loan.access_model))
        clash = fmt::format("access model {} has it, and lets in nobody by {}; ", name(loan.access_model),
                            name(wish->access_model));
    else if (wish && wish->shared != loan.shared)
        clash = loan.shared ? "it is shared, and cannot be had exclusively; "
                            : "it is had exclusively, and shared with nobody; ";
    return {Errc::busy,
            fmt::format("device {} is {} host {} ({}) by loan {}, {}; {}{}", describe(device), how,
                        loan.borrower, describe_use(loan), loan.id,
                        loan.due_us ? "due " + describe_time(loan.due_us) : "without a due time", clash,
                        ending ? "try again in a moment"
                               : fmt::format("wait, or `lanepool reclaim {}`", device.fdid))};
}

Result<> Pool::check_not_drained(const Device& device) const {
    const Host* host = ledger_.hosts.find(device.host);
    if (const std::string& why = device.draining.empty() ? host->draining : device.draining; !why.empty())
        return fail(Errc::failed_precondition,
                    "device {} is not lent at the moment: {} is drained: {}; take another device",
                    describe(device), device.draining.empty() ? "host " + device.host : "it", why);
    return {};
}

// WISH: for which it is asked; null: for none.
Result<> Pool::check_available(const Device& device, const Loan* wish) const {
    if (const Loan* loan = ledger_.loans.find(device.loan))
        return tl::unexpected<Error>(held(device, *loan, wish));
    TRY(check_not_drained(device));
    switch (device.state) {
    case DeviceState::available:
        TRY(check_parent_settled(device));
        return check_no_functions(device);
    case DeviceState::recovering:
        return fail(Errc::busy, "device {} is being reset and sanitized ({}); try again in a moment",
                    describe(device), device.reason);
    case DeviceState::quarantined:
        return fail(Errc::failed_precondition,
                    "device {} is quarantined: {}; `lanepool restore {}` brings it back if its reset and "
                    "sanitize verify",
                    describe(device), device.reason, device.fdid);
    case DeviceState::offline:
        return fail(Errc::unavailable, "device {} is offline: {}; see to host {}, or take another device",
                    describe(device), device.reason, device.host);
    case DeviceState::local:
        return fail(Errc::failed_precondition,
                    "device {} is for host {}'s own use; `lanepool restore {}` brings it into the pool",
                    describe(device), device.host, device.fdid);
    default:
        return fail(Errc::failed_precondition, "device {} is {}", describe(device), name(device.state));
    }
}

// Whether the host can take something now.
Result<> Pool::check_host(const std::string& host) const {
    const Host* borrower = ledger_.hosts.find(host);
    if (!borrower->up)
        return fail(Errc::unavailable,
                    "host {} is down: its agent is not connected; start `lanepool agent` there", host);
    if (!borrower->draining.empty())
        return fail(Errc::failed_precondition, "host {} is drained: {}; choose another host", host,
                    borrower->draining);
    return {};
}

Result<> Pool::check_other_host(const Device& device, const std::string& host) const {
    if (host != device.host) return {};
    return fail(Errc::not_supported,
                "device {} sits in host {} itself; the pool lends only to other hosts and their guests",
                describe(device), host);
}

Result<> Pool::check_duration(int64_t duration_s) const {
    if (duration_s >= 0 && duration_s <= options_.longest_loan_s) return {};
    return fail(Errc::out_of_range, "a loan of {} s: it can last 1 to {} s, or 0 for no due time", duration_s,
                options_.longest_loan_s);
}

Result<> Pool::check_room(size_t loans) const {
    if (ledger_.live_loans() + loans <= options_.live_loans) return {};
    return fail(Errc::no_space, "there are {} live loans, and no more than {} are allowed; return one first",
                ledger_.live_loans(), options_.live_loans);
}

// A wish as the site that is now would let it in.
Result<Loan> Pool::judged_again(const Loan& wish) const {
    Loan judged = wish;
    if (wish.rule == owners_rule) return judged;
    const Who who = policy_->requester(wish);
    const Rule* rule = wish.wanted.device.empty()
                           ? TRY(rule_for_any(wish.wanted, wish, who))
                           : TRY(policy_->admit(who, wish.borrower,
                                                *ledger_.devices.find(TRY(find_device(wish.wanted.device)))));
    TRY(set_terms(judged, *rule, who, wish.duration_s,
                  std::min(wish.priority, std::max(rule->priority, rule->highest_priority))));
    TRY(policy_->check_dma(who, *rule, wish.dma));
    return judged;
}

// Asked by the scheduler: whether the rule that let the wish in lets it have this device too.
Result<> Pool::check_wish(const Loan& wish, const Device& device) const {
    if (wish.rule == owners_rule) return {};
    Who who = policy_->requester(wish);
    who.tenant = wish.tenant;
    const Rule* rule = TRY(policy_->admit(who, wish.borrower, device));
    if (rule->name == wish.rule) return {};
    return fail(Errc::permission_denied, "device {} falls under rule {}, not under {}", describe(device),
                rule->name.empty() ? "(none)" : rule->name, wish.rule.empty() ? "(none)" : wish.rule);
}

// ---- the record

// GROUP: of the first loan of the request; none: it is that one.
LoanId Pool::add_loan(Loan loan, LoanId group, std::string_view what) {
    loan.id = ledger_.counters.next_loan;
    ledger_.counters.next_loan = loan.id.next();
    loan.group = group ? group : loan.id;
    loan.state = LoanState::queued;
    loan.created_us = now_.unix_us;
    AuditEntry entry;
    entry.subject = fmt::format("loan:{}", loan.id);
    entry.action = "borrow";
    entry.to = name(LoanState::queued);
    entry.reason = fmt::format("{} for host {}, {}{}{}", what, loan.borrower, describe_use(loan),
                               loan.rule.empty() ? "" : ", rule " + loan.rule,
                               loan.group == loan.id ? "" : fmt::format(", with loan {}", loan.group));
    entry.fdid = loan.fdid;
    entry.loan = loan.id;
    ledger_.loans.put(loan.id, loan);
    audit(std::move(entry));
    return loan.id;
}

} // namespace lanepool::pool
