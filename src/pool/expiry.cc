// SPDX-License-Identifier: Apache-2.0
//
// Due times: when they begin to count, how they move, what comes before them, and what follows.
#include "pool/pool.h"

#include <algorithm>

namespace lanepool::pool {

Result<LoanId> Pool::renew(const RenewRequest& request, Now now) {
    const Caller caller = asker(request.caller, std::string_view(request.loan_or_device));
    begin(now, caller);
    auto loan = try_renew(request, who(caller));
    if (!loan) audit_refusal("renew", request.loan_or_device, loan.error());
    return loan;
}

Result<LoanId> Pool::try_renew(const RenewRequest& request, const Who& who) {
    const LoanId id = TRY(find_single_loan(request.loan_or_device));
    const Loan loan = *ledger_.loans.find(id);
    TRY(policy_->check_agent(who, loan.access_model, loan.borrower, "renew a loan"));
    TRY(policy_->check_tenant(who, loan, "renew"));
    if (loan.state != LoanState::active && loan.state != LoanState::attaching &&
        loan.state != LoanState::preparing)
        return fail(Errc::failed_precondition, "loan {} is {} and cannot be renewed; borrow the device anew",
                    id, name(loan.state));
    TRY(check_duration(request.duration_s));
    for (const LoanId other : ledger_.live_loans_of_group(loan.preempted_by))
        if (const Loan& winner = *ledger_.loans.find(other); winner.state == LoanState::queued)
            return fail(Errc::busy,
                        "loan {} has to end at {}, for loan {} of priority {}; return it, or borrow another "
                        "device",
                        id, describe_time(loan.due_us), winner.id, winner.priority);
    if (!who.owner) {
        Who tenant = who;
        tenant.tenant = loan.tenant;
        const Rule* rule = TRY(policy_->admit(tenant, loan.borrower, *ledger_.devices.find(loan.fdid)));
        TRY(policy_->duration_s(tenant, *rule, request.duration_s));
        const int64_t due_us = request.duration_s == 0 ? 0 : now_.unix_us + request.duration_s * 1'000'000;
        TRY(scheduler_->may_keep(id, due_us, now_));
    }
    const int64_t before_us = loan.due_us;
    ledger_.change(id, [&](Loan& record) {
        record.duration_s = request.duration_s;
        record.preempted_by = {};
        record.warned = false;
    });
    if (loan.state == LoanState::active) set_due(id, request.duration_s * 1'000'000);
    AuditEntry entry;
    entry.subject = fmt::format("loan:{}", id);
    entry.action = "renewed";
    entry.from = before_us ? describe_time(before_us) : "";
    const int64_t due_us = ledger_.loans.find(id)->due_us;
    entry.to = due_us ? describe_time(due_us) : "";
    entry.reason = request.duration_s == 0 ? std::string("without a due time")
                   : loan.state == LoanState::active
                       ? fmt::format("for {} s from now", request.duration_s)
                       : fmt::format("for {} s once it is active", request.duration_s);
    entry.fdid = loan.fdid;
    entry.loan = id;
    entry.epoch = loan.epoch;
    audit(std::move(entry));
    extend_lease(id);
    wants_decision();
    return id;
}

// From here on its time counts.
void Pool::activated(LoanId id) {
    ledger_.change(id, [&](Loan& loan) { loan.active_us = now_.unix_us; });
    const Loan loan = *ledger_.loans.find(id);
    if (loan.preemptible) wants_decision(); // from here on it may have to end for somebody
    if (loan.duration_s == 0 && loan.due_us == 0) return;
    // Who has been pre-empted on the way here keeps the earlier end.
    const int64_t whole_us = loan.duration_s == 0 ? INT64_MAX : loan.duration_s * 1'000'000;
    const int64_t left_us = std::max<int64_t>(1, loan.due_steady_us - now_.steady_us);
    set_due(id, loan.due_steady_us == 0 ? whole_us : std::min(left_us, whole_us));
}

// 0: without a due time.
void Pool::set_due(LoanId id, int64_t in_us) {
    ledger_.change(id, [&](Loan& loan) {
        loan.due_us = in_us == 0 ? 0 : now_.unix_us + in_us;
        loan.due_steady_us = in_us == 0 ? 0 : now_.steady_us + in_us;
    });
    plan_warning(id);
}

// 0: never.
int64_t Pool::warning_steady_us(int64_t due_steady_us) const {
    const int64_t before_us = policy_->site().warn_before_due_s * 1'000'000;
    return due_steady_us == 0 || before_us == 0 ? 0 : std::max<int64_t>(1, due_steady_us - before_us);
}

// At once where that moment has passed already, as for a loan that is shorter.
void Pool::plan_warning(LoanId id) {
    const Loan& loan = *ledger_.loans.find(id);
    const int64_t warn_us = warning_steady_us(loan.due_steady_us);
    if (warn_us != loan.warn_steady_us)
        ledger_.change(id, [&](Loan& record) { record.warn_steady_us = warn_us; });
    if (warn_us != 0 && warn_us <= now_.steady_us && loan.state == LoanState::active && !loan.warned)
        warn(id);
}

// ---- what the lender is told, for the time in which it hears nothing

int64_t Pool::lease_ms(const Step& step) const {
    const Loan* loan = ledger_.loans.find(step.loan);
    if (!loan) return 0;
    if (step.kind != StepKind::prepare && step.kind != StepKind::extend) return 0;
    if (loan->due_steady_us != 0)
        return std::max<int64_t>(0, loan->due_steady_us - now_.steady_us) / 1000 + options_.lease_grace_ms;
    if (loan->duration_s == 0) return 0;
    // Its time has not begun: it does when the borrower has attached it, in so long at most.
    return int64_t{options_.prepare_ms} + options_.attach_ms + 2 * int64_t{options_.margin_ms} +
           loan->duration_s * 1000 + options_.lease_grace_ms;
}

// Nothing waits for the answer, but it is asked for until there is one: a lender that has missed it would
// end the loan too early.
void Pool::extend_lease(LoanId id) {
    const Loan& loan = *ledger_.loans.find(id);
    if (has_ended(loan.state) || loan.state == LoanState::queued) return;
    for (const StepId id_of_step : ledger_.steps_for(loan.fdid))
        if (const Step& step = *ledger_.steps.find(id_of_step);
            step.kind == StepKind::extend && step.loan == id)
            ledger_.steps.erase(id_of_step);
    issue(StepKind::extend, loan.fdid, id, options_.cut_ms);
}

// ---- what time brings

void Pool::warn(LoanId id) {
    const Loan loan = *ledger_.loans.find(id);
    ledger_.change(id, [](Loan& record) { record.warned = true; });
    audit_loan(
        "due-soon", loan,
        fmt::format("due {}; `lanepool renew loan:{}` keeps it longer", describe_time(loan.due_us), id));
}

void Pool::fall_due(LoanId id) {
    const Loan loan = *ledger_.loans.find(id);
    const std::string reason = loan.preempted_by ? fmt::format("pre-empted for loan {}", loan.preempted_by)
                                                 : "its due time has passed";
    const FailureRule& rule = policy_->failure_rule(*ledger_.devices.find(loan.fdid));
    if (rule.on_missed_due == OnMissedDue::reclaim)
        start_reclaim(id, reason);
    else
        start_return(id, reason, options_.detach_ms);
}

// WINNER is the group of the wishes that the device is wanted for. They get it through the queue, so that
// what happens to either of them meanwhile leaves no promise behind.
void Pool::preempt(LoanId id, LoanId winner) {
    const Loan* victim = ledger_.loans.find(id);
    const Loan* wish = ledger_.loans.find(winner);
    if (!victim || !wish || has_ended(victim->state) || victim->state == LoanState::queued) return;
    const Loan loan = *victim;
    const int64_t grace_us = std::max<int64_t>(1, loan.grace_s * 1'000'000);
    ledger_.change(id, [&](Loan& record) {
        record.preempted_by = winner;
        record.warned = true;
    });
    const bool earlier = loan.due_steady_us == 0 || loan.due_steady_us > now_.steady_us + grace_us;
    if (earlier) set_due(id, grace_us);
    audit_loan("preempted", loan,
               fmt::format("for loan {} of {}, priority {} over {}; it has {} s, until {}", winner,
                           wish->requested_by, wish->priority, loan.priority, loan.grace_s,
                           describe_time(ledger_.loans.find(id)->due_us)));
    if (earlier) extend_lease(id);
}

} // namespace lanepool::pool
