// SPDX-License-Identifier: Apache-2.0
#include "pool/pool.h"

#include <algorithm>
#include <charconv>
#include <fmt/chrono.h>

namespace lanepool::pool {

std::string describe(const Device& device) { return fmt::format("{} ({})", device.fdid, device.full_name()); }

std::string describe_use(const Loan& loan) {
    if (is_to_own_kernel(loan))
        return fmt::format("own kernel{}{}", loan.dma == DmaMode::none ? "" : ", ", name(loan.dma));
    if (is_to_system(loan.access_model)) return "guest " + loan.guest;
    return loan.shared ? "smartio, shared" : "smartio, exclusive";
}

std::string describe_time(int64_t unix_us) {
    return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(static_cast<time_t>(unix_us / 1'000'000)));
}

namespace {
SchedulerLimits scheduler_limits() {
    SchedulerLimits limits;
    limits.tell_again_us = 1'000'000;
    return limits;
}
} // namespace

Pool::Pool(Site site, const Options& options)
    : options_(options), policy_(std::make_shared<const Policy>(std::move(site))),
      scheduler_(std::make_unique<Scheduler>(
          [this](const Loan& wish, const Device& device) { return check_wish(wish, device); },
          scheduler_limits())),
      ledger_(*scheduler_) {
    scheduler_->set_site(policy_->site());
}

void Pool::begin(Now now, std::string_view actor) {
    now_ = now;
    actor_ = actor.empty() ? "unknown" : limited(actor, longest_asker);
}

void Pool::begin(Now now, const Caller& caller) { begin(now, policy_->who(caller).full_name()); }

// Where an agent that may be any host's asks in somebody's name: of which one it is.
Caller Pool::asker(const Caller& caller, const std::string& host) const {
    Caller found = caller;
    if (found.agent_of == "*") found.agent_of = host;
    return found;
}

Caller Pool::asker(const Caller& caller, std::string_view loan_or_device) const {
    if (caller.agent_of != "*") return caller;
    const auto id = find_loan(loan_or_device);
    return id ? asker(caller, ledger_.loans.find(*id)->borrower) : caller;
}

void Pool::audit(AuditEntry entry) {
    entry.sequence = ledger_.counters.next_audit++;
    entry.time_us = now_.unix_us;
    entry.actor = actor_;
    entry.reason = limited(entry.reason);
    audit_.push_back(std::move(entry));
}

void Pool::audit_loan(std::string_view action, const Loan& loan, std::string_view reason) {
    AuditEntry entry;
    entry.subject = fmt::format("loan:{}", loan.id);
    entry.action = action;
    entry.reason = reason;
    entry.fdid = loan.fdid;
    entry.loan = loan.id;
    entry.epoch = loan.epoch;
    audit(std::move(entry));
}

void Pool::audit_refusal(std::string_view action, std::string_view subject, const Error& error) {
    AuditEntry entry;
    entry.subject = limited(subject, longest_name);
    entry.action = fmt::format("{}-refused", action);
    entry.reason = error.message();
    if (const auto fdid = find_device(subject)) entry.fdid = *fdid;
    audit(std::move(entry));
}

// MAY_COME_BACK: what follows is not decided yet, and the others of its group wait for it.
void Pool::set_state(LoanId id, LoanState to, std::string_view reason, bool may_come_back) {
    const Loan& before = *ledger_.loans.find(id);
    if (!may_follow(before.state, to)) {
        defect_ = Error(Errc::internal,
                        fmt::format("loan {} cannot go from {} to {}", id, name(before.state), name(to)));
        return;
    }
    AuditEntry entry;
    entry.subject = fmt::format("loan:{}", id);
    entry.action = "transition";
    entry.from = name(before.state);
    entry.to = name(to);
    entry.reason = reason;
    entry.fdid = before.fdid;
    entry.loan = id;
    entry.epoch = before.epoch;
    audit(std::move(entry));
    ledger_.change(id, [&](Loan& loan) {
        loan.state = to;
        if (has_ended(to)) loan.ended_audit = audit_.back().sequence;
    });
    const bool going = to == LoanState::quiescing || to == LoanState::detaching || has_ended(to);
    if (going && !may_come_back) note_broken_group(id, reason);
}

// All or none: a group of which one goes before all of them were active is given back as a whole, at the end
// of the input at hand.
void Pool::note_broken_group(LoanId id, std::string_view reason) {
    const Loan& loan = *ledger_.loans.find(id);
    const auto others = ledger_.live_loans_of_group(loan.group);
    bool complete = loan.active_us != 0;
    bool alone = true;
    for (const LoanId other : others) {
        if (other != id) alone = false;
        if (ledger_.loans.find(other)->active_us == 0) complete = false;
    }
    if (!alone && !complete)
        broken_groups_.emplace_back(loan.group,
                                    fmt::format("loan {} of the same request ended: {}", id, reason));
}

void Pool::set_state(Fdid fdid, DeviceState to, std::string_view reason) {
    const Device& before = *ledger_.devices.find(fdid);
    const std::string kept = limited(reason);
    if (before.state == to) {
        if (before.reason != kept) ledger_.change(fdid, [&](Device& device) { device.reason = kept; });
        return;
    }
    if (!may_follow(before.state, to)) {
        defect_ = Error(Errc::internal, fmt::format("device {} cannot go from {} to {}", describe(before),
                                                    name(before.state), name(to)));
        return;
    }
    AuditEntry entry;
    entry.subject = fmt::format("device:{}", fdid);
    entry.action = "transition";
    entry.from = name(before.state);
    entry.to = name(to);
    entry.reason = kept;
    entry.fdid = fdid;
    entry.loan = before.loan;
    entry.epoch = before.epoch;
    audit(std::move(entry));
    ledger_.change(fdid, [&](Device& device) {
        device.state = to;
        device.reason = kept;
    });
    if (to == DeviceState::available) wants_decision();
}

bool Pool::is_up(const std::string& host) const {
    const Host* found = ledger_.hosts.find(host);
    return found && found->up;
}

namespace {
bool is_of_recovery(StepKind kind) {
    return kind == StepKind::take || kind == StepKind::cut || kind == StepKind::reset ||
           kind == StepKind::sanitize || kind == StepKind::give_back;
}
} // namespace

bool Pool::in_recovery(Fdid fdid) const {
    const Step* step = awaited(fdid);
    return step && is_of_recovery(step->kind);
}

// Of those that share it each has a step of its own, but of its recovery there is one for all.
const Step* Pool::awaited(Fdid fdid) const {
    const Device* device = ledger_.devices.find(fdid);
    const Step* found = nullptr;
    for (const StepId id : ledger_.steps_for(fdid)) {
        const Step* step = ledger_.steps.find(id);
        if (step->cleanup || step->kind == StepKind::extend) continue;
        if (is_of_recovery(step->kind)) return step;
        if (device && step->loan == device->loan && !found) found = step;
    }
    return found;
}

const Step* Pool::awaited_by(const Loan& loan) const {
    const Step* found = nullptr;
    for (const StepId id : ledger_.steps_for(loan.fdid)) {
        const Step* step = ledger_.steps.find(id);
        if (step->cleanup || step->kind == StepKind::extend) continue;
        if (is_of_recovery(step->kind)) return step;
        if (step->loan == loan.id && !found) found = step;
    }
    return found;
}

// ---- steps

Step Pool::new_step(StepKind kind, const std::string& host, Fdid fdid, LoanId loan, Epoch epoch) {
    Step step;
    step.id = ledger_.counters.next_step;
    ledger_.counters.next_step = step.id.next();
    step.kind = kind;
    step.host = host;
    step.loan = loan;
    step.fdid = fdid;
    step.epoch = epoch;
    return step;
}

void Pool::issue(StepKind kind, Fdid fdid, LoanId id, uint32_t deadline_ms, bool ask) {
    const Device& device = *ledger_.devices.find(fdid);
    const Loan* loan = ledger_.loans.find(id);
    const bool at_borrower = kind == StepKind::attach || kind == StepKind::detach;
    Step step = new_step(kind, at_borrower ? loan->borrower : device.host, fdid, id, device.epoch);
    step.deadline_ms = deadline_ms;
    step.ask = ask;
    step.suffices = kind == StepKind::reset && loan && !loan->sanitize;
    // A step for an agent that is away has no deadline of its own: the host's grace ends the wait.
    ledger_.steps.put(step.id, step);
    if (is_up(step.host)) send(step.id);
}

void Pool::issue_cleanup(StepKind kind, const std::string& host, Fdid fdid, LoanId loan, Epoch epoch) {
    // An agent that is away needs no telling: its next Hello shows what it still has.
    if (!is_up(host) || ledger_.steps_of(host).size() >= 2 * options_.observed_loans) return;
    Step step = new_step(kind, host, fdid, loan, epoch);
    step.deadline_ms = kind == StepKind::cut ? options_.cut_ms : options_.detach_ms;
    step.cleanup = true;
    ledger_.steps.put(step.id, step);
    send(step.id);
}

void Pool::send(StepId id) {
    ledger_.change(id, [&](Step& step) {
        ++step.sent;
        step.sent_steady_us = now_.steady_us;
        step.deadline_steady_us = now_.steady_us + (int64_t{step.deadline_ms} + options_.margin_ms) * 1000;
        step.lease_ms = lease_ms(step);
    });
    Order order;
    order.step = *ledger_.steps.find(id);
    if (const Device* device = ledger_.devices.find(order.step.fdid)) {
        order.device = device->name;
        if (const Host* lender = ledger_.hosts.find(device->host)) order.lender_partition = lender->partition;
    }
    if (const Loan* loan = ledger_.loans.find(order.step.loan)) {
        order.guest = loan->guest;
        order.access_model = loan->access_model;
        order.shared = loan->shared;
        order.dma = loan->dma;
        if (const Host* borrower = ledger_.hosts.find(loan->borrower))
            order.borrower_partition = borrower->partition;
    }
    AuditEntry entry;
    entry.subject =
        order.step.loan ? fmt::format("loan:{}", order.step.loan) : fmt::format("device:{}", order.step.fdid);
    entry.action = fmt::format("{}-sent", name(order.step.kind));
    entry.to = order.step.host;
    entry.fdid = order.step.fdid;
    entry.loan = order.step.loan;
    entry.epoch = order.step.epoch;
    audit(std::move(entry));
    orders_.push_back(std::move(order));
}

// ---- what has changed

Result<Outcome> Pool::outcome() {
    if (!defect_) serve_queue();
    if (defect_) return tl::unexpected<Error>(*defect_);
    Outcome outcome;
    const auto nothing = [](const auto&) {};
    ledger_.hosts.changes([&](const Host& host) { outcome.hosts.push_back(host); }, nothing);
    ledger_.devices.changes([&](const Device& device) { outcome.devices.push_back(device); },
                            [&](Fdid fdid) { outcome.erased_devices.push_back(fdid); });
    ledger_.loans.changes([&](const Loan& loan) { outcome.loans.push_back(loan); },
                          [&](LoanId id) { outcome.erased_loans.push_back(id); });
    ledger_.steps.changes([&](const Step& step) { outcome.steps.push_back(step); },
                          [&](StepId id) { outcome.erased_steps.push_back(id); });
    ledger_.usage.changes([&](const Usage& used) { outcome.usage.push_back(used); }, nothing);
    outcome.site = site_text_;
    outcome.counters = ledger_.counters;
    outcome.audit = std::exchange(audit_, {});
    outcome.orders = std::exchange(orders_, {});
    return outcome;
}

void Pool::commit() {
    ledger_.commit();
    fault_notes_.commit();
    audit_.clear();
    orders_.clear();
    committed_policy_.reset();
    site_text_.reset();
}

void Pool::rollback() {
    ledger_.rollback();
    fault_notes_.rollback();
    audit_.clear();
    orders_.clear();
    defect_.reset();
    broken_groups_.clear();
    if (committed_policy_) {
        policy_ = std::exchange(committed_policy_, nullptr);
        scheduler_->set_site(policy_->site());
    }
    site_text_.reset();
    wants_decision();
}

// ---- reading

namespace {
template <class T>
std::optional<T> number(std::string_view text, int base) {
    T value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}
} // namespace

Result<Fdid> Pool::find_device(std::string_view id) const {
    if (id.find('/') != std::string_view::npos) {
        if (const auto fdid = ledger_.device_named(id)) return *fdid;
    } else {
        std::string_view digits = id;
        if (digits.starts_with("0x") || digits.starts_with("0X")) digits.remove_prefix(2);
        if (const auto fdid = number<uint64_t>(digits, 16); fdid && ledger_.devices.find({*fdid}))
            return Fdid{*fdid};
    }
    return fail(Errc::not_found, "there is no device '{}'; `lanepool ls` shows those that are there",
                limited(id, longest_name));
}

Result<LoanId> Pool::find_loan(std::string_view text) const {
    if (text.starts_with("loan:")) {
        const auto id = number<uint64_t>(text.substr(5), 10);
        if (id && ledger_.loans.find({*id})) return LoanId{*id};
        return fail(Errc::not_found, "there is no '{}'; `lanepool loans` shows those that are there",
                    limited(text, longest_name));
    }
    const Device& device = *ledger_.devices.find(TRY(find_device(text)));
    if (!device.loan)
        return fail(Errc::failed_precondition, "device {} is not lent: it is {}{}{}", describe(device),
                    name(device.state), device.reason.empty() ? "" : ": ", device.reason);
    return device.loan;
}

} // namespace lanepool::pool
