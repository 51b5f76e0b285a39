// SPDX-License-Identifier: Apache-2.0
#include "pool/pool.h"

#include <algorithm>
#include <charconv>
#include <fmt/chrono.h>

namespace lanepool::pool {

std::string describe(const Device& device) { return fmt::format("{} ({})", device.fdid, device.full_name()); }

std::string describe_time(int64_t unix_us) {
    return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(static_cast<time_t>(unix_us / 1'000'000)));
}

void Pool::begin(Now now, std::string_view actor) {
    now_ = now;
    actor_ = actor.empty() ? "unknown" : limited(actor, longest_name + sizeof "agent:");
}

void Pool::audit(AuditEntry entry) {
    entry.sequence = ledger_.counters.next_audit++;
    entry.time_us = now_.unix_us;
    entry.actor = actor_;
    entry.reason = limited(entry.reason);
    audit_.push_back(std::move(entry));
}

void Pool::audit_refusal(std::string_view action, std::string_view subject, const Error& error) {
    AuditEntry entry;
    entry.subject = limited(subject, longest_name);
    entry.action = fmt::format("{}-refused", action);
    entry.reason = error.message();
    if (const auto fdid = find_device(subject)) entry.fdid = *fdid;
    audit(std::move(entry));
}

void Pool::set_state(LoanId id, LoanState to, std::string_view reason) {
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
    ledger_.change(id, [&](Loan& loan) { loan.state = to; });
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
}

bool Pool::is_up(const std::string& host) const {
    const Host* found = ledger_.hosts.find(host);
    return found && found->up;
}

bool Pool::in_recovery(Fdid fdid) const {
    const Step* step = awaited(fdid);
    return step &&
           (step->kind == StepKind::cut || step->kind == StepKind::reset || step->kind == StepKind::sanitize);
}

const Step* Pool::awaited(Fdid fdid) const {
    for (const StepId id : ledger_.steps_for(fdid))
        if (const Step* step = ledger_.steps.find(id); !step->cleanup) return step;
    return nullptr;
}

// ---- steps

void Pool::issue(StepKind kind, Fdid fdid, LoanId loan, uint32_t deadline_ms) {
    const Device& device = *ledger_.devices.find(fdid);
    const bool at_borrower = kind == StepKind::attach || kind == StepKind::detach;
    Step step;
    step.id = ledger_.counters.next_step;
    ledger_.counters.next_step = step.id.next();
    step.kind = kind;
    step.host = at_borrower ? ledger_.loans.find(loan)->borrower : device.host;
    step.loan = loan;
    step.fdid = fdid;
    step.epoch = device.epoch;
    step.deadline_ms = deadline_ms;
    // A step for an agent that is away has no deadline of its own: the host's grace ends the wait.
    ledger_.steps.put(step.id, step);
    if (is_up(step.host)) send(step.id);
}

void Pool::issue_cleanup(const std::string& host, Fdid fdid, LoanId loan, Epoch epoch) {
    // An agent that is away needs no telling: its next Hello shows what it still has.
    if (!is_up(host) || ledger_.steps_of(host).size() >= 2 * options_.observed_loans) return;
    Step step;
    step.id = ledger_.counters.next_step;
    ledger_.counters.next_step = step.id.next();
    step.kind = StepKind::detach;
    step.host = host;
    step.loan = loan;
    step.fdid = fdid;
    step.epoch = epoch;
    step.deadline_ms = options_.detach_ms;
    step.cleanup = true;
    ledger_.steps.put(step.id, step);
    send(step.id);
}

void Pool::send(StepId id) {
    ledger_.change(id, [&](Step& step) {
        ++step.sent;
        step.sent_steady_us = now_.steady_us;
        step.deadline_steady_us = now_.steady_us + (int64_t{step.deadline_ms} + options_.margin_ms) * 1000;
    });
    Order order;
    order.step = *ledger_.steps.find(id);
    if (const Device* device = ledger_.devices.find(order.step.fdid)) {
        order.device = device->name;
        if (const Host* lender = ledger_.hosts.find(device->host)) order.lender_partition = lender->partition;
    }
    if (const Loan* loan = ledger_.loans.find(order.step.loan)) {
        order.guest = loan->guest;
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

Result<Outcome> Pool::outcome() const {
    if (defect_) return tl::unexpected<Error>(*defect_);
    Outcome outcome;
    const auto nothing = [](const auto&) {};
    ledger_.hosts.changes([&](const Host& host) { outcome.hosts.push_back(host); }, nothing);
    ledger_.devices.changes([&](const Device& device) { outcome.devices.push_back(device); }, nothing);
    ledger_.loans.changes([&](const Loan& loan) { outcome.loans.push_back(loan); },
                          [&](LoanId id) { outcome.erased_loans.push_back(id); });
    ledger_.steps.changes([&](const Step& step) { outcome.steps.push_back(step); },
                          [&](StepId id) { outcome.erased_steps.push_back(id); });
    outcome.counters = ledger_.counters;
    outcome.audit = audit_;
    outcome.orders = orders_;
    return outcome;
}

void Pool::commit() {
    ledger_.commit();
    audit_.clear();
    orders_.clear();
}

void Pool::rollback() {
    ledger_.rollback();
    audit_.clear();
    orders_.clear();
    defect_.reset();
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
