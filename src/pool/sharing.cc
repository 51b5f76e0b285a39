// SPDX-License-Identifier: Apache-2.0
//
// Several loans of one device: who joins, who leaves while others stay, and what ends all of them. They are
// of one epoch, which the first was given. Device::loan is one of those that stay; it has no more of the
// device than the others. The last one to end takes the device back through cut, reset and sanitize.
#include "pool/pool.h"

#include <algorithm>

namespace lanepool::pool {

namespace {
// Not on its way back.
bool stays(const Loan& loan) {
    return loan.state != LoanState::detaching && loan.state != LoanState::resetting && !has_ended(loan.state);
}
} // namespace

// Whether the wish is for a device that others have who would share it with such a one.
bool Pool::may_share(const Device& device, const Loan& wish) const {
    const Loan* holder = ledger_.loans.find(device.loan);
    return holder && wish.access_model == AccessModel::smartio && wish.shared &&
           holder->access_model == AccessModel::smartio && holder->shared;
}

// Whether it can be let in beside them now.
Result<> Pool::check_join(const Device& device, const Loan& wish) const {
    const Loan& holder = *ledger_.loans.find(device.loan);
    const auto loans = ledger_.loans_on(device.fdid);
    if (device.state == DeviceState::offline)
        return fail(Errc::unavailable, "device {} is offline: {}; see to host {}, or take another device",
                    describe(device), device.reason, device.host);
    TRY(check_not_drained(device));
    const bool any_goes_on = std::any_of(loans.begin(), loans.end(), [&](LoanId id) {
        const Loan& loan = *ledger_.loans.find(id);
        return stays(loan) && loan.state != LoanState::quiescing;
    });
    if (!any_goes_on || device.kept_local || in_recovery(device.fdid))
        return tl::unexpected<Error>(held(device, holder, &wish));
    for (const LoanId id : loans)
        if (const Loan& loan = *ledger_.loans.find(id); loan.preempted_by)
            return fail(
                Errc::busy,
                "device {} is taken from those that share it, for loan {}; wait, or take another device",
                describe(device), loan.preempted_by);
    if (loans.size() >= options_.loans_per_device)
        return fail(
            Errc::busy,
            "device {} is shared by {} loans, and no more than that are allowed; wait, or take another "
            "device",
            describe(device), loans.size());
    return scheduler_->may_join(wish, device.fdid, now_);
}

// The loan is queued, and others have the device.
void Pool::join(LoanId id, Fdid fdid) {
    const Device device = *ledger_.devices.find(fdid);
    // What one of them has left there is erased after the last of them, if that one's rule wants it.
    bool sanitize = ledger_.loans.find(id)->sanitize;
    for (const LoanId other : ledger_.loans_on(fdid))
        sanitize = sanitize || ledger_.loans.find(other)->sanitize;
    for (const LoanId other : ledger_.loans_on(fdid))
        if (ledger_.loans.find(other)->sanitize != sanitize)
            ledger_.change(other, [&](Loan& loan) { loan.sanitize = sanitize; });
    ledger_.change(id, [&](Loan& loan) {
        loan.fdid = fdid;
        loan.epoch = ledger_.loans.find(device.loan)->epoch;
        loan.sanitize = sanitize;
        loan.reason.clear();
    });
    set_state(id, LoanState::reserved, fmt::format("it shares the device with loan {}", device.loan));
    set_state(id, LoanState::preparing, {});
    issue(StepKind::prepare, fdid, id, options_.prepare_ms);
}

// Whether somebody goes on with the device when this loan is over.
bool Pool::others_stay(const Loan& loan) const {
    if (!loan.shared) return false;
    const auto loans = ledger_.loans_on(loan.fdid);
    return std::any_of(loans.begin(), loans.end(),
                       [&](LoanId id) { return id != loan.id && stays(*ledger_.loans.find(id)); });
}

// Its ways alone are closed, and nothing is reset.
void Pool::leave(LoanId id, const std::string& reason, bool tell_borrower) {
    const Loan loan = *ledger_.loans.find(id);
    for (const StepId id_of_step : ledger_.steps_for(loan.fdid))
        if (const Step& step = *ledger_.steps.find(id_of_step); step.loan == id && !step.cleanup)
            ledger_.steps.erase(id_of_step);
    set_state(id, LoanState::detaching, reason);
    if (ledger_.devices.find(loan.fdid)->loan == id)
        for (const LoanId other : ledger_.loans_on(loan.fdid)) {
            if (!stays(*ledger_.loans.find(other))) continue;
            ledger_.change(loan.fdid, [&](Device& device) { device.loan = other; });
            break;
        }
    issue(StepKind::expel, loan.fdid, id, options_.cut_ms);
    if (tell_borrower) issue_cleanup(StepKind::detach, loan.borrower, loan.fdid, id, loan.epoch);
    reflect(loan.fdid);
}

// Of all that have it.
void Pool::reclaim_device(Fdid fdid, const std::string& reason) {
    if (in_recovery(fdid)) return; // already on its way
    const LoanId holder = ledger_.devices.find(fdid)->loan;
    for (const LoanId id : ledger_.loans_on(fdid))
        if (stays(*ledger_.loans.find(id)))
            ledger_.change(id, [&](Loan& loan) { loan.reason = limited(reason); });
    recover(fdid, reason, ledger_.loans.find(holder)->state != LoanState::preparing);
}

// A loan that is being returned is not failed by that: it ends a little earlier. False: it is over already,
// or nearly.
bool Pool::note_loss(LoanId id, const std::string& reason) {
    const Loan loan = *ledger_.loans.find(id);
    switch (loan.state) {
    case LoanState::reserved:
    case LoanState::preparing:
    case LoanState::attaching:
    case LoanState::active:
        ledger_.change(id, [&](Loan& record) {
            record.failing = true;
            record.reason = limited(reason);
        });
        return true;
    case LoanState::quiescing:
        ledger_.change(id,
                       [&](Loan& record) { record.reason = limited(record.reason + "; then " + reason); });
        return true;
    default:
        return false;
    }
}

// No loan of the device can go on.
void Pool::lose_device(Fdid fdid, const std::string& reason) {
    if (in_recovery(fdid)) return;
    const LoanId holder = ledger_.devices.find(fdid)->loan;
    for (const LoanId id : ledger_.loans_on(fdid))
        note_loss(id, reason);
    recover(fdid, reason, ledger_.loans.find(holder)->state != LoanState::preparing);
}

// For requests that are about one of several that share a device.
Result<LoanId> Pool::find_single_loan(std::string_view loan_or_device) const {
    const LoanId id = TRY(find_loan(loan_or_device));
    const Loan& loan = *ledger_.loans.find(id);
    if (loan_or_device.starts_with("loan:") || !loan.shared) return id;
    std::vector<std::string> names;
    for (const LoanId other : ledger_.loans_on(loan.fdid))
        names.push_back(fmt::format("loan:{}", other));
    if (names.size() < 2) return id;
    return fail(Errc::invalid_argument, "device {} is shared by {} loans; name one of: {}",
                describe(*ledger_.devices.find(loan.fdid)), names.size(), fmt::join(names, ", "));
}

} // namespace lanepool::pool
