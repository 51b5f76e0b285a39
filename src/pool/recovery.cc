// SPDX-License-Identifier: Apache-2.0
//
// What follows from the answer to a step, and the way back of a device: cut, reset, sanitize, and only then
// the pool; or quarantine, with the reason.
#include "pool/fair_share.h"
#include "pool/pool.h"

#include <algorithm>

namespace lanepool::pool {

namespace {
// More than one loan ever takes; a loan that is asked for steps again and again keeps the first ones.
constexpr size_t most_step_times = 16;
// In bytes, of why a step has failed: so that the step and the code around it have room in a reason.
constexpr size_t longest_cause = 200;
} // namespace

void Pool::answered(const std::string& host, const StepAnswer& answer, Now now) {
    const Step* found = ledger_.steps.find(answer.step);
    if (!found || found->host != host || found->kind != answer.kind || found->loan != answer.loan ||
        found->epoch != answer.epoch)
        return; // late, twice, of an old epoch, or not this agent's
    begin(now, "agent:" + host);
    const Step step = *found;
    const std::string why =
        answer.ok ? std::string()
                  : limited(fmt::format("{}{}{}", limited(answer.message, longest_cause),
                                        answer.message.empty() ? "" : " ",
                                        answer.code.empty() ? "" : "[" + limited(answer.code, 32) + "]"));
    ledger_.steps.erase(step.id);
    AuditEntry entry;
    entry.subject = step.loan ? fmt::format("loan:{}", step.loan) : fmt::format("device:{}", step.fdid);
    entry.action = fmt::format("{}-{}", name(step.kind), answer.ok ? "done" : "failed");
    entry.reason = why;
    entry.fdid = step.fdid;
    entry.loan = step.loan;
    entry.epoch = step.epoch;
    audit(std::move(entry));
    if (step.cleanup) return;
    const bool stays = !answer.ok && step.ask && answer.code == name(Errc::busy);
    if (!stays) note_duration(step);
    if (answer.ok && answer.attached) note_attached(step, *answer.attached);
    if (answer.ok)
        advance(step);
    else if (stays)
        stays_in_use(step, why);
    else
        step_failed(step, why);
    settle_groups();
}

void Pool::lost(const std::string& host, const LoanLost& lost, Now now) {
    const Loan* loan = ledger_.loans.find(lost.loan);
    if (!loan || has_ended(loan->state) || loan->epoch != lost.epoch) return;
    const std::string& expected = lost.as_lender ? ledger_.devices.find(loan->fdid)->host : loan->borrower;
    if (host != expected) return;
    begin(now, "agent:" + host);
    lose(lost.loan,
         fmt::format("host {} lost it{}{}", host, lost.reason.empty() ? "" : ": ", limited(lost.reason)));
    settle_groups();
}

void Pool::note_duration(const Step& step) {
    if (!step.loan) return;
    ledger_.change(step.loan, [&](Loan& loan) {
        if (loan.steps.size() < most_step_times)
            loan.steps.push_back({step.kind, now_.steady_us - step.sent_steady_us});
    });
}

void Pool::advance(const Step& step) {
    switch (step.kind) {
    case StepKind::prepare:
        set_state(step.loan, LoanState::attaching, {});
        return issue(StepKind::attach, step.fdid, step.loan, options_.attach_ms);
    case StepKind::attach:
        set_state(step.loan, LoanState::active, {});
        activated(step.loan);
        return reflect(step.fdid);
    case StepKind::detach: {
        const Loan loan = *ledger_.loans.find(step.loan);
        if (others_stay(loan)) return leave(step.loan, loan.reason, false);
        return recover(step.fdid, loan.reason, false);
    }
    case StepKind::expel: {
        const Loan loan = *ledger_.loans.find(step.loan);
        return end(step.loan, loan.failing ? LoanState::failed : LoanState::returned, loan.reason);
    }
    case StepKind::cut:
        if (const std::string why = ledger_.devices.find(step.fdid)->condemned; !why.empty())
            return quarantine(step.fdid, why);
        for (const LoanId id :
             ledger_.loans_on(step.fdid)) // one that its host took back has been there before
            if (ledger_.loans.find(id)->state == LoanState::detaching)
                set_state(id, LoanState::resetting, {});
        return issue(StepKind::reset, step.fdid, step.loan, options_.reset_ms);
    case StepKind::reset:
        ledger_.change(step.fdid, [](Device& device) { device.failed_resets = 0; });
        if (step.suffices) return finish(step.fdid);
        return issue(StepKind::sanitize, step.fdid, step.loan, options_.sanitize_ms);
    case StepKind::sanitize:
        return finish(step.fdid);
    case StepKind::take:
        ledger_.change(step.fdid, [](Device& device) { device.with_host = false; });
        // Somebody has thought better of it, and nothing has been done with it yet.
        if (ledger_.devices.find(step.fdid)->kept_local)
            return start_give_back(step.fdid, "left to its own host");
        return issue(StepKind::cut, step.fdid, step.loan, options_.cut_ms);
    case StepKind::give_back:
        return given_back(step.fdid);
    case StepKind::set_functions:
        return await_functions(step);
    case StepKind::extend:
        return; // nothing waits for it
    }
}

void Pool::step_failed(const Step& step, const std::string& why) {
    switch (step.kind) {
    case StepKind::prepare:
    case StepKind::attach:
        return lose(step.loan, fmt::format("{} at host {} failed: {}", name(step.kind), step.host, why));
    case StepKind::detach: {
        ledger_.change(step.loan, [&](Loan& loan) {
            loan.reason = limited(fmt::format("{}; {} did not let go and was cut off: {}", loan.reason,
                                              is_to_own_kernel(loan)            ? "the host's kernel"
                                              : is_to_system(loan.access_model) ? "the guest"
                                                                                : "the application",
                                              why));
        });
        const Loan loan = *ledger_.loans.find(step.loan);
        if (others_stay(loan)) return leave(step.loan, loan.reason, true);
        return recover(step.fdid, loan.reason, true);
    }
    case StepKind::expel: // its ways may be open still: nobody is to have the device until all are closed
        ledger_.change(step.loan, [](Loan& loan) { loan.failing = true; });
        return lose_device(step.fdid, fmt::format("loan {} could not be expelled by host {}: {}", step.loan,
                                                  step.host, why));
    case StepKind::reset:
        if (is_up(step.host) && retries_reset(step.fdid)) {
            ledger_.change(step.fdid, [](Device& device) { ++device.failed_resets; });
            return issue(StepKind::reset, step.fdid, step.loan, options_.reset_ms);
        }
        [[fallthrough]];
    case StepKind::cut:
    case StepKind::sanitize:
    case StepKind::give_back:
        if (is_up(step.host))
            return quarantine(step.fdid, fmt::format("{} failed: {}", name(step.kind), why));
        return give_up(step.fdid, fmt::format("host {} is down", step.host));
    case StepKind::take:
        if (is_up(step.host)) return leave_to_host(step.fdid, fmt::format("take failed: {}", why));
        return give_up(step.fdid, fmt::format("host {} is down", step.host));
    case StepKind::set_functions:
        end_functions(step.fdid);
        if (is_up(step.host))
            set_state(step.fdid, DeviceState::local, fmt::format("set-functions failed: {}", why));
        return;
    case StepKind::extend:
        return; // the lender keeps to the end that it knows
    }
}

bool Pool::retries_reset(Fdid fdid) const {
    const Device& device = *ledger_.devices.find(fdid);
    const FailureRule& rule = policy_->failure_rule(device);
    return rule.on_failed_reset == OnFailedReset::retry && device.failed_resets < rule.reset_retries;
}

// Takes the device away from whoever has it: from here on only a verified sanitize leads back to the pool.
// REASON is a copy: it may be the loan's own, which changes here.
void Pool::recover(Fdid fdid, std::string reason, bool tell_borrower) {
    if (in_recovery(fdid)) return;
    const LoanId holder = ledger_.devices.find(fdid)->loan;
    drop_steps(fdid);
    // The cut carries a new epoch, and with it the lender's agent refuses every late step of the old loan.
    raise_epoch(fdid);
    ledger_.change(fdid, [](Device& device) {
        device.clean = false;
        device.failed_resets = 0;
    });
    std::vector<std::pair<LoanId, std::string>> told; // with its borrower
    for (const LoanId id : ledger_.loans_on(fdid)) {
        const Loan loan = *ledger_.loans.find(id);
        const bool attached = loan.state == LoanState::attaching || loan.state == LoanState::active ||
                              loan.state == LoanState::quiescing;
        if (id == holder ? tell_borrower : attached) told.emplace_back(id, loan.borrower);
        if (loan.state == LoanState::detaching) continue; // by itself, until now
        if (loan.reason.empty()) ledger_.change(id, [&](Loan& record) { record.reason = limited(reason); });
        set_state(id, LoanState::detaching, reason);
    }
    if (is_up(ledger_.devices.find(fdid)->host)) set_state(fdid, DeviceState::recovering, reason);
    start_recovery(fdid);
    for (const auto& [id, borrower] : told)
        issue_cleanup(StepKind::detach, borrower, fdid, id, ledger_.devices.find(fdid)->epoch);
}

// The loan cannot go on, or all of those that share its device.
void Pool::lose(LoanId id, const std::string& reason) {
    const Loan loan = *ledger_.loans.find(id);
    if (!note_loss(id, reason)) return;
    const bool tell_borrower = loan.state != LoanState::preparing;
    if (others_stay(loan)) return leave(id, reason, tell_borrower);
    recover(loan.fdid, reason, tell_borrower);
}

// Reset and sanitize have verified, or the reset alone where nothing has to be erased.
void Pool::finish(Fdid fdid) {
    ledger_.change(fdid, [](Device& device) { device.clean = true; });
    const Device device = *ledger_.devices.find(fdid);
    if (device.kept_local && device.seen_with_host) return start_give_back(fdid, device.reason);
    for (const LoanId id : ledger_.loans_on(fdid)) {
        const Loan& loan = *ledger_.loans.find(id);
        end(id, loan.failing ? LoanState::failed : LoanState::returned, std::string(loan.reason));
    }
    if (device.kept_local) return set_state(fdid, DeviceState::local, "for its host's own use");
    set_state(fdid, DeviceState::available, {});
    start_successor(fdid);
}

void Pool::quarantine(Fdid fdid, const std::string& reason) {
    const Device device = *ledger_.devices.find(fdid);
    const bool wanted = !device.condemned.empty();
    drop_steps(fdid);
    // Its steps may be under way still, or come again late: none of them is to count.
    if (wanted) raise_epoch(fdid);
    for (const LoanId id : ledger_.loans_on(fdid)) {
        const Loan loan = *ledger_.loans.find(id);
        end(loan.id, wanted && !loan.failing ? LoanState::returned : LoanState::failed,
            fmt::format("{}{}the device is quarantined: {}", loan.reason, loan.reason.empty() ? "" : "; ",
                        reason));
    }
    ledger_.change(fdid, [](Device& record) {
        record.clean = false;
        record.condemned.clear();
    });
    set_state(fdid, DeviceState::quarantined, reason);
    fail_successor(fdid, fmt::format("the device is quarantined: {}", reason));
}

// The lender is not there to cut the device off. The loan ends all the same; the device stays offline, and is
// cut, reset and sanitized before anything else when its host is back.
void Pool::give_up(Fdid fdid, const std::string& reason) {
    drop_steps(fdid);
    raise_epoch(fdid);
    for (const LoanId id : ledger_.loans_on(fdid)) {
        const Loan loan = *ledger_.loans.find(id);
        if (loan.state == LoanState::quiescing) set_state(id, LoanState::detaching, reason);
        const bool was_ending = loan.state == LoanState::quiescing || loan.state == LoanState::detaching ||
                                loan.state == LoanState::resetting;
        const bool failed = loan.failing || !was_ending;
        // What an active one says is why it was not given back.
        const std::string before = loan.state == LoanState::active ? std::string() : loan.reason;
        end(id, failed ? LoanState::failed : LoanState::returned,
            fmt::format("{}{}{}: the device is reset when it is back", before, before.empty() ? "" : "; ",
                        reason));
        if (loan.state != LoanState::preparing)
            issue_cleanup(StepKind::detach, loan.borrower, fdid, id, ledger_.devices.find(fdid)->epoch);
    }
    if (const std::string why = ledger_.devices.find(fdid)->condemned; !why.empty())
        return quarantine(fdid, why);
    ledger_.change(fdid, [](Device& device) { device.clean = false; });
    set_state(fdid, DeviceState::offline, fmt::format("{}; it is reset when it is back", reason));
    fail_successor(fdid, reason);
}

void Pool::end(LoanId id, LoanState how, const std::string& reason) {
    const Loan loan = *ledger_.loans.find(id);
    ledger_.change(id, [&](Loan& record) {
        record.reason = limited(reason);
        record.ended_us = now_.unix_us;
    });
    set_state(id, how, reason);
    if (loan.fdid)
        ledger_.change(loan.fdid, [&](Device& device) {
            if (device.loan == id) device.loan = {};
            if (device.successor == id) device.successor = {};
        });
    if (loan.active_us != 0) {
        const Usage* before = ledger_.usage.find(loan.tenant);
        ledger_.usage.put(loan.tenant, charged(before ? *before : Usage{loan.tenant, 0, loan.active_us},
                                               loan.active_us, now_.unix_us));
    }
    while (ledger_.ended_loans() > options_.ended_loans_kept)
        ledger_.loans.erase(*ledger_.oldest_ended());
    wants_decision();
}

void Pool::fail_successor(Fdid fdid, const std::string& reason) {
    if (const LoanId successor = ledger_.devices.find(fdid)->successor)
        end(successor, LoanState::failed, reason);
}

// All that this device waits for; what a borrower was told to forget stays.
void Pool::drop_steps(Fdid fdid) {
    for (const StepId id : ledger_.steps_for(fdid)) {
        const Step step = *ledger_.steps.find(id);
        if (step.cleanup) continue;
        ledger_.steps.erase(id);
        if (step.kind == StepKind::set_functions) end_functions(fdid);
    }
}

void Pool::raise_epoch(Fdid fdid) {
    ledger_.change(fdid, [](Device& device) { device.epoch = device.epoch.next(); });
}

// Shows what a device that has a loan, or is on its way back, is at the moment.
void Pool::reflect(Fdid fdid) {
    const Device& device = *ledger_.devices.find(fdid);
    if (!is_up(device.host)) return; // it stays offline until its agent is back
    const Loan* loan = ledger_.loans.find(device.loan);
    if (in_recovery(fdid))
        return set_state(fdid, DeviceState::recovering, loan ? loan->reason : "its reset goes on");
    if (!loan) return;
    // What one of those that share it has had is lent, also while it comes to the next.
    bool lent = device.state == DeviceState::lent;
    for (const LoanId id : ledger_.loans_on(fdid)) {
        const LoanState state = ledger_.loans.find(id)->state;
        lent = lent || state == LoanState::active || state == LoanState::quiescing;
    }
    set_state(fdid, lent ? DeviceState::lent : DeviceState::reserved, {});
}

} // namespace lanepool::pool
