// SPDX-License-Identifier: Apache-2.0
//
// Devices that their own hosts have until they are taken: what comes before the recovery that leads into the
// pool, and after the one that leads out of it. What a host has is never lent and never erased; and where
// somebody there uses it, it stays where it is.
#include "pool/pool.h"

namespace lanepool::pool {

namespace {
std::string is_with_host(const Device& device) {
    return fmt::format("its own host has it; `lanepool restore {}` brings it into the pool", device.fdid);
}
} // namespace

void Pool::seen_with_host(Fdid fdid) {
    const Device& device = *ledger_.devices.find(fdid);
    if (device.with_host && !device.clean) return;
    ledger_.change(fdid, [](Device& record) {
        record.with_host = record.seen_with_host = true;
        record.clean = false;
    });
}

// The first step of a recovery whose epoch and loans are settled.
void Pool::start_recovery(Fdid fdid) {
    const Device device = *ledger_.devices.find(fdid);
    if (!device.with_host) return issue(StepKind::cut, fdid, device.loan, options_.cut_ms);
    if (device.kept_local) return leave_to_host(fdid, is_with_host(device)); // it is where it should be
    if (auto free = check_no_functions(device); !free)
        return leave_to_host(fdid, fmt::format("{} [{}]", free.error().message(), name(free.error().code())));
    issue(StepKind::take, fdid, device.loan, options_.take_ms);
}

// In the middle of a recovery its host has it again: what is done already counts no more.
void Pool::begin_with_take(Fdid fdid, const std::string& reason) {
    drop_steps(fdid);
    raise_epoch(fdid);
    set_state(fdid, DeviceState::recovering, reason);
    start_recovery(fdid);
}

// It could not be taken, or should not be. That is nobody's fault: the device is not quarantined for it.
void Pool::leave_to_host(Fdid fdid, const std::string& reason) {
    if (const std::string why = ledger_.devices.find(fdid)->condemned; !why.empty())
        return quarantine(fdid, why);
    drop_steps(fdid);
    end_loans(fdid, "its own host has the device: " + reason);
    ledger_.change(fdid, [](Device& device) {
        device.kept_local = true;
        device.clean = false;
    });
    set_state(fdid, DeviceState::local, reason);
    fail_successor(fdid, "the device's own host has it: " + reason);
}

void Pool::end_loans(Fdid fdid, const std::string& reason) {
    for (const LoanId id : ledger_.loans_on(fdid)) {
        const Loan loan = *ledger_.loans.find(id);
        end(id, loan.failing ? LoanState::failed : LoanState::returned,
            fmt::format("{}{}{}", loan.reason, loan.reason.empty() || reason.empty() ? "" : "; ", reason));
    }
}

// Nothing of a loan is left on it. With a new epoch, so that its host's agent refuses an old take that comes
// late.
void Pool::start_give_back(Fdid fdid, const std::string& reason) {
    raise_epoch(fdid);
    set_state(fdid, DeviceState::recovering, reason);
    issue(StepKind::give_back, fdid, ledger_.devices.find(fdid)->loan, options_.give_back_ms);
}

void Pool::given_back(Fdid fdid) {
    seen_with_host(fdid);
    end_loans(fdid, {});
    const Device device = *ledger_.devices.find(fdid);
    if (!device.kept_local) // it was restored meanwhile
        return recover(fdid, device.reason, false);
    set_state(fdid, DeviceState::local, is_with_host(device));
}

// Its host answers, and the device does.
void Pool::observe_kept_local(const Device& device, const ObservedDevice& observed) {
    const Fdid fdid = device.fdid;
    if (observed.local) { // where it says already why it stays there, it goes on to
        if (device.state != DeviceState::local || device.reason.empty())
            set_state(fdid, DeviceState::local, is_with_host(device));
    } else if (!device.seen_with_host) {
        set_state(fdid, DeviceState::local, "for its host's own use");
    } else if (device.with_host || (device.clean && observed.clean)) {
        // A take that was given up has worked after all, and nothing has been done with the device since; or
        // it was clean when somebody took it out of the pool.
        start_give_back(fdid, "its own host is to have it");
    } else {
        recover(fdid, "its own host is to have it, and it has not been reset and sanitized", false);
    }
}

} // namespace lanepool::pool
