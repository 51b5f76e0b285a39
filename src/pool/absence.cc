// SPDX-License-Identifier: Apache-2.0
//
// Time, and hosts whose agents are not there.
#include "pool/pool.h"

#include <algorithm>

namespace lanepool::pool {

std::optional<int64_t> Pool::next_tick_steady_us() const {
    const Timer* timer = ledger_.next_timer();
    const int64_t decision_us = ledger_.wishes() == 0 ? 0 : decision_steady_us_;
    if (!timer) return decision_us ? std::optional(decision_us) : std::nullopt;
    return decision_us ? std::min(decision_us, timer->steady_us) : timer->steady_us;
}

void Pool::tick(Now now) {
    begin(now, "controller");
    if (decision_steady_us_ != 0 && decision_steady_us_ <= now.steady_us) wants_decision();
    // Each of these takes its timer away, unless it has found a defect.
    for (size_t i = 0; i < options_.timers_per_tick && !defect_; ++i) {
        const Timer* next = ledger_.next_timer();
        if (!next || next->steady_us > now.steady_us) break;
        expire(Timer(*next));
    }
    settle_groups();
}

void Pool::expire(const Timer& timer) {
    switch (timer.kind) {
    case Timer::Kind::step_deadline:
        return step_expired({timer.id});
    case Timer::Kind::loan_warning:
        return warn({timer.id});
    case Timer::Kind::loan_due:
        return fall_due({timer.id});
    case Timer::Kind::wait_over:
        return end_wish({timer.id}, LoanState::failed,
                        fmt::format("it was not served in time: {}", ledger_.loans.find({timer.id})->reason));
    case Timer::Kind::borrower_crash:
        ledger_.change(LoanId{timer.id}, [](Loan& loan) { loan.crash_steady_us = 0; });
        return lose({timer.id}, fmt::format("host {} does not answer any more",
                                            ledger_.loans.find({timer.id})->borrower));
    case Timer::Kind::borrower_grace:
        return borrower_gone(timer.host);
    case Timer::Kind::lender_grace:
        return lender_gone(timer.host);
    }
}

void Pool::step_expired(StepId id) {
    const Step step = *ledger_.steps.find(id);
    ledger_.steps.erase(id);
    const std::string why = fmt::format("host {} has not answered within {} ms", step.host,
                                        (now_.steady_us - step.sent_steady_us) / 1000);
    AuditEntry entry;
    entry.subject = step.loan ? fmt::format("loan:{}", step.loan) : fmt::format("device:{}", step.fdid);
    entry.action = fmt::format("{}-expired", name(step.kind));
    entry.reason = why;
    entry.fdid = step.fdid;
    entry.loan = step.loan;
    entry.epoch = step.epoch;
    audit(std::move(entry));
    if (step.kind == StepKind::extend && step.sent < options_.sendings) {
        Step again = step;
        again.deadline_steady_us = 0;
        ledger_.steps.put(id, again);
        if (is_up(step.host)) send(id); // else its next Hello has it sent
        return;
    }
    if (!step.cleanup) step_failed(step, why);
}

void Pool::disconnected(const std::string& host, std::string_view why, Now now) {
    if (!is_up(host)) return;
    begin(now, "controller");
    ledger_.change(host, [&](Host& record) {
        record.up = false;
        record.borrower_grace_steady_us = now.steady_us + int64_t{options_.borrower_grace_ms} * 1000;
        record.lender_grace_steady_us = now.steady_us + int64_t{options_.lender_grace_ms} * 1000;
    });
    wait_for_borrower(host, 0);
    AuditEntry entry;
    entry.subject = "host:" + host;
    entry.action = "transition";
    entry.from = "up";
    entry.to = "down";
    entry.reason = why;
    audit(std::move(entry));
    for (const Fdid fdid : ledger_.devices_of(host))
        if (ledger_.devices.find(fdid)->state != DeviceState::quarantined)
            set_state(fdid, DeviceState::offline,
                      fmt::format("the agent of host {} is not connected: {}", host, why));
    for (const StepId id : ledger_.steps_of(host))
        if (ledger_.steps.find(id)->cleanup)
            ledger_.steps.erase(id); // its next Hello shows whether it is needed
}

// Loans whose devices are to wait for a crashed borrower have a time of their own, the others the host's
// grace.
void Pool::wait_for_borrower(const std::string& host, int64_t least_us) {
    for (const LoanId id : ledger_.live_loans_of(host)) {
        const Loan& loan = *ledger_.loans.find(id);
        if (loan.state != LoanState::active) continue;
        const FailureRule& rule = policy_->failure_rule(*ledger_.devices.find(loan.fdid));
        if (rule.on_borrower_crash != OnBorrowerCrash::wait) continue;
        const int64_t wait_us = std::max(rule.wait_s * 1'000'000, least_us);
        ledger_.change(id, [&](Loan& record) { record.crash_steady_us = now_.steady_us + wait_us; });
    }
}

// Wishes wait on: they are served when the host is back, or their time is over.
void Pool::borrower_gone(const std::string& host) {
    ledger_.change(host, [](Host& record) { record.borrower_grace_steady_us = 0; });
    const std::string reason = fmt::format("host {} does not answer any more", host);
    for (const LoanId id : ledger_.live_loans_of(host)) {
        const Loan& loan = *ledger_.loans.find(id);
        if (loan.state == LoanState::queued && loan.fdid)
            end(id, LoanState::failed, reason);
        else if (loan.state != LoanState::queued &&
                 (loan.crash_steady_us == 0 || loan.state != LoanState::active))
            lose(id, reason);
    }
}

void Pool::lender_gone(const std::string& host) {
    ledger_.change(host, [](Host& record) { record.lender_grace_steady_us = 0; });
    for (const Fdid fdid : ledger_.devices_of(host)) {
        if (ledger_.devices.find(fdid)->loan || in_recovery(fdid))
            give_up(fdid, fmt::format("host {} does not answer any more", host));
        else
            drop_steps(fdid);
    }
}

} // namespace lanepool::pool
