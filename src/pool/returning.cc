// SPDX-License-Identifier: Apache-2.0
//
// Loans that somebody wants to end, or to see with somebody else.
#include "pool/pool.h"

namespace lanepool::pool {

Result<LoanId> Pool::give_back(const ReturnRequest& request, Now now) {
    const Caller caller = asker(request.caller, std::string_view(request.loan_or_device));
    begin(now, caller);
    auto loan = try_give_back(request, who(caller));
    if (!loan) audit_refusal("return", request.loan_or_device, loan.error());
    settle_groups();
    return loan;
}

Result<LoanId> Pool::reclaim(const ReclaimRequest& request, Now now) {
    begin(now, request.caller);
    auto loan = try_reclaim(request, who(request.caller));
    if (!loan) audit_refusal("reclaim", request.loan_or_device, loan.error());
    settle_groups();
    return loan;
}

Result<LoanId> Pool::reassign(const ReassignRequest& request, Now now) {
    begin(now, request.caller);
    auto loan = try_reassign(request, who(request.caller));
    if (!loan) audit_refusal("reassign", request.loan_or_device, loan.error());
    settle_groups();
    return loan;
}

Result<LoanId> Pool::try_give_back(const ReturnRequest& request, const Who& who) {
    const LoanId id = TRY(find_single_loan(request.loan_or_device));
    const Loan loan = *ledger_.loans.find(id);
    TRY(policy_->check_agent(who, loan.access_model, loan.borrower, "return a loan"));
    TRY(policy_->check_tenant(who, loan, "return"));
    if (request.to_local) TRY(policy_->check_role(who, Role::operator_, "take a device out of the pool"));
    if (has_ended(loan.state))
        return fail(Errc::failed_precondition, "loan {} is over: it {} at {}{}{}", id, name(loan.state),
                    describe_time(loan.ended_us), loan.reason.empty() ? "" : ": ", loan.reason);
    if (request.deadline_ms > options_.detach_longest_ms)
        return fail(Errc::out_of_range, "a deadline of {} ms for the guest: at most {} ms",
                    request.deadline_ms, options_.detach_longest_ms);
    if (request.to_local && loan.state == LoanState::queued)
        return fail(Errc::failed_precondition,
                    "loan {} is queued and has no device that could be its host's own; withdraw it, or wait",
                    id);
    const uint32_t deadline_ms = request.deadline_ms ? request.deadline_ms : options_.detach_ms;
    if (request.to_local) mark_local(loan.fdid);
    start_return(id, fmt::format("returned by {}", actor_), deadline_ms, is_to_own_kernel(loan));
    if (!request.to_local) return id;
    for (const LoanId other : ledger_.loans_on(loan.fdid))
        if (other != id)
            start_return(other, fmt::format("{} has taken the device out of the pool", actor_), deadline_ms);
    return id;
}

Result<LoanId> Pool::try_reclaim(const ReclaimRequest& request, const Who& who) {
    TRY(policy_->check_role(who, Role::operator_, "reclaim a loan"));
    const LoanId id = TRY(find_loan(request.loan_or_device));
    const Loan loan = *ledger_.loans.find(id);
    if (has_ended(loan.state))
        return fail(Errc::failed_precondition, "loan {} is over: there is nothing to reclaim", id);
    const std::string reason = fmt::format("reclaimed by {}{}{}", actor_, request.reason.empty() ? "" : ": ",
                                           limited(request.reason));
    // Who names the device means all of those that share it.
    if (request.loan_or_device.starts_with("loan:"))
        start_reclaim(id, reason);
    else
        reclaim_device(loan.fdid, reason);
    return id;
}

Result<LoanId> Pool::try_reassign(const ReassignRequest& request, const Who& who) {
    const LoanId old_id = TRY(find_loan(request.loan_or_device));
    const Loan old_loan = *ledger_.loans.find(old_id);
    TRY(policy_->check_tenant(who, old_loan, "reassign"));
    if (!is_to_system(old_loan.access_model))
        return fail(
            Errc::not_supported,
            "loan {} is of access model {}: no application of another host waits for it; return it, and "
            "let one borrow there",
            old_id, name(old_loan.access_model));
    if (!old_loan.fdid)
        return fail(Errc::failed_precondition,
                    "loan {} has no device yet: it is queued; withdraw it, and ask for host {}", old_id,
                    limited(request.host, longest_name));
    const Device device = *ledger_.devices.find(old_loan.fdid);
    if (has_ended(old_loan.state) || old_loan.state == LoanState::queued)
        return fail(Errc::failed_precondition, "loan {} is {}; `lanepool borrow {} {}` takes the device",
                    old_id, has_ended(old_loan.state) ? "over" : "queued", device.fdid,
                    limited(request.host, longest_name));
    if (const Loan* promised = ledger_.loans.find(device.successor))
        return fail(Errc::busy, "device {} is already promised to host {} by loan {}; return that one first",
                    describe(device), promised->borrower, promised->id);
    Loan loan;
    loan.guest = TRY(check_receiver(request.host, request.guest, loan.access_model, DmaMode::none));
    TRY(check_other_host(device, request.host));
    TRY(check_host(request.host));
    if (request.host == old_loan.borrower && loan.guest == old_loan.guest)
        return fail(Errc::already_exists, "{} of host {} has device {} already, by loan {}",
                    loan.guest.empty() ? "the kernel" : "guest " + loan.guest, request.host, describe(device),
                    old_id);
    TRY(check_room(1));
    // Whoever hands it over, it stays the same tenant's.
    Who tenant = who;
    tenant.tenant = old_loan.tenant;
    const Rule* rule = TRY(policy_->admit(tenant, request.host, device));
    TRY(set_terms(loan, *rule, tenant, std::nullopt, std::nullopt));
    if (loan.guest.empty())
        TRY(policy_->dma(tenant, *rule, *ledger_.hosts.find(request.host), DmaMode::none));
    loan.fdid = device.fdid;
    loan.wanted.device = fmt::format("{}", device.fdid);
    loan.borrower = request.host;
    loan.reason = fmt::format("loan {} has device {}", old_id, describe(device));
    const LoanId id = add_loan(loan, {}, "device " + describe(device));
    ledger_.change(device.fdid, [&](Device& record) { record.successor = id; });
    const std::string reason = fmt::format("reassigned to host {} by {}", request.host, actor_);
    if (request.force)
        start_reclaim(old_id, reason);
    else
        start_return(old_id, reason, options_.detach_ms, is_to_own_kernel(old_loan));
    return id;
}

// ---- how it ends

// ASK: it goes on where somebody uses it, as if nobody had wanted it back.
void Pool::start_return(LoanId id, const std::string& reason, uint32_t deadline_ms, bool ask) {
    const Loan loan = *ledger_.loans.find(id);
    switch (loan.state) {
    case LoanState::queued:
        return end_wish(id, LoanState::returned, reason);
    case LoanState::active:
        // A borrower that is waited for after its crash cannot be asked.
        if (const Host& host = *ledger_.hosts.find(loan.borrower);
            !host.up && host.borrower_grace_steady_us == 0)
            return start_reclaim(id, reason);
        ledger_.change(id, [&](Loan& record) { record.reason = limited(reason); });
        set_state(id, LoanState::quiescing, reason, ask);
        return issue(StepKind::detach, loan.fdid, id, deadline_ms, ask);
    case LoanState::quiescing:
        if (!ask) insist(id, reason, deadline_ms);
        return;
    case LoanState::reserved:
    case LoanState::preparing:
    case LoanState::attaching:
        // No guest uses it yet: there is nobody to ask.
        return start_reclaim(id, reason + " before it was active");
    default:
        return; // already on its way
    }
}

void Pool::start_reclaim(LoanId id, const std::string& reason) {
    const Loan loan = *ledger_.loans.find(id);
    if (loan.state == LoanState::queued) return end_wish(id, LoanState::returned, reason);
    if (in_recovery(loan.fdid) || loan.state == LoanState::detaching) return; // already on its way
    ledger_.change(id, [&](Loan& record) { record.reason = limited(reason); });
    const bool tell_borrower = loan.state != LoanState::preparing;
    if (others_stay(loan)) return leave(id, reason, tell_borrower);
    recover(loan.fdid, reason, tell_borrower);
}

} // namespace lanepool::pool
