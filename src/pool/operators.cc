// SPDX-License-Identifier: Apache-2.0
//
// What operators do with one device or host, and admins with the site.
#include "pool/pool.h"

namespace lanepool::pool {

Result<Fdid> Pool::reset(const ResetRequest& request, Now now) {
    begin(now, request.caller);
    auto fdid = try_reset(request, who(request.caller));
    if (!fdid) audit_refusal("reset", request.device, fdid.error());
    return fdid;
}

Result<std::vector<LoanId>> Pool::drain(const DrainRequest& request, Now now) {
    begin(now, request.caller);
    auto loans = try_drain(request, who(request.caller));
    if (!loans) audit_refusal(request.drain ? "drain" : "undrain", request.host_or_device, loans.error());
    settle_groups();
    return loans;
}

Result<Fdid> Pool::quarantine(const QuarantineRequest& request, Now now) {
    begin(now, request.caller);
    auto fdid = try_quarantine(request, who(request.caller));
    if (!fdid) audit_refusal("quarantine", request.device, fdid.error());
    settle_groups();
    return fdid;
}

Result<Fdid> Pool::restore(const RestoreRequest& request, Now now) {
    begin(now, request.caller);
    auto fdid = try_restore(request, who(request.caller));
    if (!fdid) audit_refusal("restore", request.device, fdid.error());
    return fdid;
}

Result<Fdid> Pool::keep_local(const KeepLocalRequest& request, Now now) {
    begin(now, request.caller);
    auto fdid = try_keep_local(request, who(request.caller));
    if (!fdid) audit_refusal("keep-local", request.device, fdid.error());
    return fdid;
}

// ---- one device

Result<Fdid> Pool::try_reset(const ResetRequest& request, const Who& who) {
    TRY(policy_->check_role(who, Role::operator_, "reset a device"));
    const Device device = *ledger_.devices.find(TRY(find_device(request.device)));
    if (in_recovery(device.fdid)) return device.fdid;
    if (device.loan) TRY(check_available(device));
    TRY(check_lender(device, "reset"));
    TRY(check_there(device));
    if (device.with_host && device.state == DeviceState::local)
        return fail(Errc::failed_precondition,
                    "device {} is its own host's, and what is on it too; `lanepool restore {}` takes it into "
                    "the pool, and erases it",
                    describe(device), device.fdid);
    recover(device.fdid, fmt::format("reset by {}", actor_), false);
    return device.fdid;
}

Result<> Pool::check_lender(const Device& device, std::string_view what) const {
    if (is_up(device.host)) return {};
    return fail(Errc::unavailable, "device {} cannot be {}: the agent of host {} is not connected; start it",
                describe(device), what, device.host);
}

// Of what comes and goes with its host, such as a function that has been removed.
Result<> Pool::check_there(const Device& device) const {
    if (!device.gone || !device.seen_with_host) return {};
    return fail(Errc::unavailable, "device {} is not there: {}", describe(device), device.reason);
}

Result<Fdid> Pool::try_quarantine(const QuarantineRequest& request, const Who& who) {
    TRY(policy_->check_role(who, Role::operator_, "quarantine a device"));
    const Device device = *ledger_.devices.find(TRY(find_device(request.device)));
    if (request.reason.empty())
        return fail(Errc::invalid_argument,
                    "a quarantine of device {} without a reason; say why, for whoever comes next",
                    describe(device));
    const std::string reason = limited(fmt::format("by {}: {}", actor_, request.reason));
    if (device.state == DeviceState::quarantined) {
        set_state(device.fdid, DeviceState::quarantined, reason);
        return device.fdid;
    }
    AuditEntry entry;
    entry.subject = fmt::format("device:{}", device.fdid);
    entry.action = "quarantine";
    entry.reason = reason;
    entry.fdid = device.fdid;
    entry.loan = device.loan;
    entry.epoch = device.epoch;
    audit(std::move(entry));
    ledger_.change(device.fdid, [&](Device& record) { record.condemned = reason; });
    const Loan* loan = ledger_.loans.find(device.loan);
    if (!loan || loan->state == LoanState::resetting)
        quarantine(device.fdid, reason); // nobody has it any more
    else
        reclaim_device(device.fdid, fmt::format("reclaimed by {}: {}", actor_, limited(request.reason)));
    return device.fdid;
}

Result<Fdid> Pool::try_restore(const RestoreRequest& request, const Who& who) {
    TRY(policy_->check_role(who, Role::operator_, "restore a device"));
    const Device device = *ledger_.devices.find(TRY(find_device(request.device)));
    if (device.state != DeviceState::quarantined && !device.kept_local)
        return fail(
            Errc::failed_precondition,
            "device {} is {}: only one that is quarantined or kept local is restored; `lanepool reset "
            "{}` resets it",
            describe(device), name(device.state), device.fdid);
    TRY(check_lender(device, "restored"));
    TRY(check_there(device));
    TRY(check_parent_settled(device));
    if (device.with_host) TRY(check_no_functions(device));
    if (const Step* step = awaited(device.fdid); step && step->kind == StepKind::set_functions)
        return fail(Errc::busy, "the functions of device {} are being changed; try again in a moment",
                    describe(device));
    AuditEntry entry;
    entry.subject = fmt::format("device:{}", device.fdid);
    entry.action = "restore";
    entry.reason = device.reason;
    entry.fdid = device.fdid;
    entry.epoch = device.epoch;
    audit(std::move(entry));
    if (device.kept_local) ledger_.change(device.fdid, [](Device& record) { record.kept_local = false; });
    // It may still be on its way out of the pool: then it stays in.
    if (!device.loan && !in_recovery(device.fdid))
        recover(device.fdid, fmt::format("restored by {}", actor_), false);
    return device.fdid;
}

Result<Fdid> Pool::try_keep_local(const KeepLocalRequest& request, const Who& who) {
    TRY(policy_->check_role(who, Role::operator_, "take a device out of the pool"));
    const Device device = *ledger_.devices.find(TRY(find_device(request.device)));
    if (device.kept_local) return device.fdid;
    if (device.loan)
        return fail(Errc::busy,
                    "device {} is lent by loan {}; return it to local use (`lanepool return --to-local {}`)",
                    describe(device), device.loan, device.fdid);
    if (device.state == DeviceState::quarantined)
        return fail(Errc::failed_precondition,
                    "device {} is quarantined: {}; `lanepool restore {}` first, so that nothing of a loan is "
                    "left on it",
                    describe(device), device.reason, device.fdid);
    mark_local(device.fdid);
    // One that is offline or on its way back becomes local at the end of that.
    if (device.state == DeviceState::available && device.seen_with_host)
        return start_give_back(device.fdid, fmt::format("kept by {}", actor_)), device.fdid;
    if (device.state == DeviceState::available) {
        ledger_.change(device.fdid, [](Device& record) { record.clean = false; });
        set_state(device.fdid, DeviceState::local, fmt::format("kept by {}", actor_));
    }
    return device.fdid;
}

void Pool::mark_local(Fdid fdid) {
    ledger_.change(fdid, [](Device& record) { record.kept_local = true; });
    fail_successor(fdid, fmt::format("{} has taken the device out of the pool", actor_));
    const Device& device = *ledger_.devices.find(fdid);
    AuditEntry entry;
    entry.subject = fmt::format("device:{}", fdid);
    entry.action = "keep-local";
    entry.reason = fmt::format("for host {}'s own use", device.host);
    entry.fdid = fdid;
    entry.loan = device.loan;
    entry.epoch = device.epoch;
    audit(std::move(entry));
}

// The loan that it was to come back from goes on.
void Pool::unmark_local(Fdid fdid, const std::string& reason) {
    const Device& device = *ledger_.devices.find(fdid);
    if (!device.kept_local) return;
    ledger_.change(fdid, [](Device& record) { record.kept_local = false; });
    AuditEntry entry;
    entry.subject = fmt::format("device:{}", fdid);
    entry.action = "keep-local-cancelled";
    entry.reason = reason;
    entry.fdid = fdid;
    entry.loan = device.loan;
    entry.epoch = device.epoch;
    audit(std::move(entry));
}

// ---- one device or host

Result<std::vector<LoanId>> Pool::try_drain(const DrainRequest& request, const Who& who) {
    TRY(policy_->check_role(who, Role::operator_, "drain hosts and devices"));
    const std::string& id = request.host_or_device;
    const bool is_host = ledger_.hosts.find(id);
    const auto fdid = find_device(id);
    if (is_host && fdid)
        return fail(Errc::invalid_argument,
                    "'{}' is a host and the fdid of device {}; name the device as HOST/NAME, or 0x{}", id,
                    describe(*ledger_.devices.find(*fdid)), *fdid);
    if (!is_host && !fdid)
        return fail(Errc::not_found,
                    "there is no host or device '{}'; drain acts on one of them; `lanepool ls` and `lanepool "
                    "hosts` show what is there",
                    limited(id, longest_name));
    const std::string why = !request.drain           ? std::string()
                            : request.reason.empty() ? "by " + actor_
                                                     : limited(request.reason);
    std::vector<LoanId> loans;
    AuditEntry entry;
    entry.action = request.drain ? "drain" : "undrain";
    entry.reason = why;
    if (is_host) {
        entry.subject = "host:" + id;
        ledger_.change(id, [&](Host& host) { host.draining = why; });
        for (const LoanId loan : ledger_.live_loans_of(id))
            if (ledger_.loans.find(loan)->state != LoanState::queued) loans.push_back(loan);
        for (const Fdid device : ledger_.devices_of(id))
            for (const LoanId loan : ledger_.loans_on(device))
                if (ledger_.loans.find(loan)->borrower != id)
                    loans.push_back(loan); // else it is there already
    } else {
        entry.subject = fmt::format("device:{}", *fdid);
        entry.fdid = *fdid;
        ledger_.change(*fdid, [&](Device& device) { device.draining = why; });
        loans = ledger_.loans_on(*fdid);
    }
    audit(std::move(entry));
    wants_decision();
    if (!request.drain || !request.evict) return std::vector<LoanId>();
    for (const LoanId loan : loans)
        start_return(loan, fmt::format("drained by {}: {}", actor_, why), options_.detach_ms);
    return loans;
}

// ---- the site

Result<> Pool::apply_site(Site site, const std::string& text, const Caller& caller, Now now) {
    begin(now, caller);
    if (auto allowed = policy_->check_role(who(caller), Role::admin, "change the site"); !allowed) {
        audit_refusal("apply-site", "site", allowed.error());
        return allowed;
    }
    auto policy = std::make_shared<const Policy>(std::move(site));
    AuditEntry entry;
    entry.subject = "site";
    entry.action = "apply-site";
    entry.reason = policy->changes_since(*policy_);
    audit(std::move(entry));
    if (!committed_policy_) committed_policy_ = policy_;
    policy_ = std::move(policy);
    site_text_ = text;
    scheduler_->set_site(policy_->site());
    judge_wishes();
    wants_decision();
    settle_groups();
    return {};
}

// A wish that the new site lets in by another rule, or by none, would wait in vain.
void Pool::judge_wishes() {
    std::vector<Loan> changed;
    std::vector<std::pair<LoanId, std::string>> refused;
    for (const auto& [id, loan] : ledger_.loans.all()) {
        if (loan.state != LoanState::queued || loan.fdid) continue;
        auto judged = judged_again(loan);
        if (!judged)
            refused.emplace_back(id, judged.error().message());
        else if (*judged != loan)
            changed.push_back(std::move(*judged));
    }
    for (Loan& loan : changed)
        ledger_.loans.put(loan.id, std::move(loan));
    for (const auto& [id, reason] : refused)
        if (const Loan* loan = ledger_.loans.find(id); loan && loan->state == LoanState::queued)
            end_wish(id, LoanState::failed, fmt::format("the site was changed: {}", reason));
}

} // namespace lanepool::pool
