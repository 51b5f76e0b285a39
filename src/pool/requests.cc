// SPDX-License-Identifier: Apache-2.0
//
// What people ask of the pool: whether it may be, and how it starts.
#include "pool/pool.h"

#include <algorithm>

namespace lanepool::pool {

Result<LoanId> Pool::borrow(const BorrowRequest& request, Now now) {
    begin(now, request.actor);
    auto loan = try_borrow(request);
    if (!loan) audit_refusal("borrow", request.device, loan.error());
    return loan;
}

Result<LoanId> Pool::give_back(const ReturnRequest& request, Now now) {
    begin(now, request.actor);
    auto loan = try_give_back(request);
    if (!loan) audit_refusal("return", request.loan_or_device, loan.error());
    return loan;
}

Result<LoanId> Pool::reclaim(const ReclaimRequest& request, Now now) {
    begin(now, request.actor);
    auto loan = try_reclaim(request);
    if (!loan) audit_refusal("reclaim", request.loan_or_device, loan.error());
    return loan;
}

Result<LoanId> Pool::reassign(const ReassignRequest& request, Now now) {
    begin(now, request.actor);
    auto loan = try_reassign(request);
    if (!loan) audit_refusal("reassign", request.loan_or_device, loan.error());
    return loan;
}

Result<Fdid> Pool::reset(const ResetRequest& request, Now now) {
    begin(now, request.actor);
    auto fdid = try_reset(request);
    if (!fdid) audit_refusal("reset", request.device, fdid.error());
    return fdid;
}

// ---- whether it may be

Result<> Pool::check_available(const Device& device) const {
    if (const Loan* loan = ledger_.loans.find(device.loan)) {
        const bool ending = loan->state == LoanState::quiescing || loan->state == LoanState::detaching ||
                            loan->state == LoanState::resetting;
        return fail(Errc::busy, "device {} is {} host {} (guest {}) by loan {}, {}; {}", describe(device),
                    ending                             ? "being taken back from"
                    : loan->state == LoanState::active ? "lent to"
                                                       : "on its way to",
                    loan->borrower, loan->guest, loan->id,
                    loan->due_us ? "due " + describe_time(loan->due_us) : "without a due time",
                    ending ? "try again in a moment"
                           : fmt::format("wait, or `lanepool reclaim {}`", device.fdid));
    }
    switch (device.state) {
    case DeviceState::available:
        return {};
    case DeviceState::recovering:
        return fail(Errc::busy, "device {} is being reset and sanitized ({}); try again in a moment",
                    describe(device), device.reason);
    case DeviceState::quarantined:
        return fail(Errc::failed_precondition,
                    "device {} is quarantined: {}; `lanepool reset {}` brings it back if its reset and "
                    "sanitize verify",
                    describe(device), device.reason, device.fdid);
    case DeviceState::offline:
        return fail(Errc::unavailable, "device {} is offline: {}; see to host {}, or take another device",
                    describe(device), device.reason, device.host);
    default:
        return fail(Errc::failed_precondition, "device {} is {}", describe(device), name(device.state));
    }
}

Result<std::string> Pool::check_borrower(const Device& device, const std::string& host,
                                         const std::string& guest) const {
    const Host* borrower = ledger_.hosts.find(host);
    if (!borrower)
        return fail(Errc::not_found, "there is no host '{}'; `lanepool hosts` shows those that are there",
                    limited(host, longest_name));
    if (host == device.host)
        return fail(Errc::not_supported,
                    "device {} sits in host {} itself; the pool lends only to other hosts", describe(device),
                    host);
    if (!borrower->up)
        return fail(Errc::unavailable,
                    "host {} is down: its agent is not connected; start `lanepool agent` there", host);
    if (!guest.empty()) {
        if (std::find(borrower->guests.begin(), borrower->guests.end(), guest) == borrower->guests.end())
            return fail(
                Errc::not_found, "host {} has no guest '{}'; it has: {}", host, limited(guest, longest_name),
                borrower->guests.empty() ? "none" : fmt::format("{}", fmt::join(borrower->guests, ", ")));
        return guest;
    }
    if (borrower->guests.empty())
        return fail(Errc::failed_precondition,
                    "host {} has no guest that could take a device; start one there", host);
    if (borrower->guests.size() > 1)
        return fail(Errc::invalid_argument, "host {} has several guests; name one of: {}", host,
                    fmt::join(borrower->guests, ", "));
    return borrower->guests.front();
}

Result<> Pool::check_room(int64_t duration_s) const {
    if (duration_s < 0 || duration_s > options_.longest_loan_s)
        return fail(Errc::out_of_range, "a loan of {} s: it can last 1 to {} s, or 0 for no due time",
                    duration_s, options_.longest_loan_s);
    if (ledger_.live_loans() >= options_.live_loans)
        return fail(Errc::no_space,
                    "there are {} live loans, and no more than that are allowed; return one first",
                    ledger_.live_loans());
    return {};
}

Result<LoanId> Pool::try_borrow(const BorrowRequest& request) {
    const Device device = *ledger_.devices.find(TRY(find_device(request.device)));
    TRY(check_available(device));
    const std::string guest = TRY(check_borrower(device, request.host, request.guest));
    TRY(check_room(request.duration_s));
    const LoanId id = add_loan(device, request.host, guest, request.duration_s);
    start(id);
    return id;
}

Result<LoanId> Pool::try_give_back(const ReturnRequest& request) {
    const LoanId id = TRY(find_loan(request.loan_or_device));
    const Loan loan = *ledger_.loans.find(id);
    if (has_ended(loan.state))
        return fail(Errc::failed_precondition, "loan {} is over: it {} at {}{}{}", id, name(loan.state),
                    describe_time(loan.ended_us), loan.reason.empty() ? "" : ": ", loan.reason);
    if (request.deadline_ms > options_.detach_longest_ms)
        return fail(Errc::out_of_range, "a deadline of {} ms for the guest: at most {} ms",
                    request.deadline_ms, options_.detach_longest_ms);
    start_return(id, fmt::format("returned by {}", actor_),
                 request.deadline_ms ? request.deadline_ms : options_.detach_ms);
    return id;
}

Result<LoanId> Pool::try_reclaim(const ReclaimRequest& request) {
    const LoanId id = TRY(find_loan(request.loan_or_device));
    const Loan loan = *ledger_.loans.find(id);
    if (has_ended(loan.state))
        return fail(Errc::failed_precondition, "loan {} is over: there is nothing to reclaim", id);
    start_reclaim(id, fmt::format("reclaimed by {}{}{}", actor_, request.reason.empty() ? "" : ": ",
                                  limited(request.reason)));
    return id;
}

Result<LoanId> Pool::try_reassign(const ReassignRequest& request) {
    const LoanId old_id = TRY(find_loan(request.loan_or_device));
    const Loan old_loan = *ledger_.loans.find(old_id);
    const Device device = *ledger_.devices.find(old_loan.fdid);
    if (has_ended(old_loan.state))
        return fail(Errc::failed_precondition, "loan {} is over; `lanepool borrow {} {}` takes the device",
                    old_id, device.fdid, limited(request.host, longest_name));
    if (const Loan* promised = ledger_.loans.find(device.successor))
        return fail(Errc::busy, "device {} is already promised to host {} by loan {}; return that one first",
                    describe(device), promised->borrower, promised->id);
    const std::string guest = TRY(check_borrower(device, request.host, request.guest));
    if (request.host == old_loan.borrower && guest == old_loan.guest)
        return fail(Errc::already_exists, "guest {} of host {} has device {} already, by loan {}", guest,
                    request.host, describe(device), old_id);
    TRY(check_room(0));
    const LoanId id = add_loan(device, request.host, guest, 0);
    ledger_.change(device.fdid, [&](Device& record) { record.successor = id; });
    const std::string reason = fmt::format("reassigned to host {} by {}", request.host, actor_);
    if (request.force)
        start_reclaim(old_id, reason);
    else
        start_return(old_id, reason, options_.detach_ms);
    return id;
}

Result<Fdid> Pool::try_reset(const ResetRequest& request) {
    const Device device = *ledger_.devices.find(TRY(find_device(request.device)));
    if (in_recovery(device.fdid)) return device.fdid;
    if (device.loan) TRY(check_available(device));
    if (!is_up(device.host))
        return fail(Errc::unavailable,
                    "device {} cannot be reset: the agent of host {} is not connected; start it",
                    describe(device), device.host);
    recover(device.fdid, fmt::format("reset by {}", actor_), false);
    return device.fdid;
}

// ---- how it starts

LoanId Pool::add_loan(const Device& device, const std::string& host, const std::string& guest,
                      int64_t duration_s) {
    Loan loan;
    loan.id = ledger_.counters.next_loan;
    ledger_.counters.next_loan = loan.id.next();
    loan.fdid = device.fdid;
    loan.borrower = host;
    loan.guest = guest;
    loan.requested_by = actor_;
    loan.created_us = now_.unix_us;
    if (duration_s > 0) {
        loan.due_us = now_.unix_us + duration_s * 1'000'000;
        loan.due_steady_us = now_.steady_us + duration_s * 1'000'000;
    }
    ledger_.loans.put(loan.id, loan);
    AuditEntry entry;
    entry.subject = fmt::format("loan:{}", loan.id);
    entry.action = "borrow";
    entry.to = name(LoanState::queued);
    entry.reason = fmt::format("device {} for host {}, guest {}", describe(device), host, guest);
    entry.fdid = device.fdid;
    entry.loan = loan.id;
    audit(std::move(entry));
    return loan.id;
}

// The device is available.
void Pool::start(LoanId id) {
    const Fdid fdid = ledger_.loans.find(id)->fdid;
    raise_epoch(fdid);
    ledger_.change(fdid, [&](Device& device) {
        device.loan = id;
        device.clean = false;
    });
    const Epoch epoch = ledger_.devices.find(fdid)->epoch;
    ledger_.change(id, [&](Loan& loan) { loan.epoch = epoch; });
    set_state(id, LoanState::reserved, {});
    set_state(fdid, DeviceState::reserved, {});
    set_state(id, LoanState::preparing, {});
    issue(StepKind::prepare, fdid, id, options_.prepare_ms);
}

void Pool::start_return(LoanId id, const std::string& reason, uint32_t deadline_ms) {
    const Loan loan = *ledger_.loans.find(id);
    switch (loan.state) {
    case LoanState::queued:
        return fail_successor(loan.fdid, reason);
    case LoanState::active:
        ledger_.change(id, [&](Loan& record) { record.reason = reason; });
        set_state(id, LoanState::quiescing, reason);
        return issue(StepKind::detach, loan.fdid, id, deadline_ms);
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
    if (loan.state == LoanState::queued) return fail_successor(loan.fdid, reason);
    if (in_recovery(loan.fdid)) return; // already on its way
    ledger_.change(id, [&](Loan& record) { record.reason = limited(reason); });
    recover(loan.fdid, reason, loan.state != LoanState::preparing);
}

// The device has just become available.
void Pool::start_successor(Fdid fdid) {
    const Device device = *ledger_.devices.find(fdid);
    const Loan* waiting = ledger_.loans.find(device.successor);
    if (!waiting) return;
    const auto guest = check_borrower(device, waiting->borrower, waiting->guest);
    if (!guest) return fail_successor(fdid, guest.error().message());
    ledger_.change(fdid, [](Device& record) { record.successor = {}; });
    start(device.successor);
}

} // namespace lanepool::pool
