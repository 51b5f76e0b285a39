// SPDX-License-Identifier: Apache-2.0
//
// Who receives a function on the borrower: a guest, applications, or the host's own kernel; and what is
// different where it is that kernel, which may have the device mounted.
#include "pool/pool.h"

#include <algorithm>

namespace lanepool::pool {

namespace {
std::string guests_of(const Host& host) {
    return host.guests.empty() ? "none" : fmt::format("{}", fmt::join(host.guests, ", "));
}
} // namespace

Result<std::string> Pool::check_guest(const std::string& name, const std::string& guest) const {
    const Host& host = *ledger_.hosts.find(name);
    if (std::find(host.guests.begin(), host.guests.end(), guest) != host.guests.end()) return guest;
    return fail(Errc::not_found, "host {} has no guest '{}'; it has: {}{}", name,
                limited(guest, longest_name), guests_of(host),
                host.dma_modes.empty() ? "" : "; without a guest's name its own kernel takes the device");
}

// The guest of a lending loan, or nothing: it is for the host's own kernel, or for applications, which come
// to it by themselves.
Result<std::string> Pool::check_receiver(const std::string& name, const std::string& guest, AccessModel model,
                                         DmaMode dma) const {
    const Host* host = ledger_.hosts.find(name);
    if (!host)
        return fail(Errc::not_found, "there is no host '{}'; `lanepool hosts` shows those that are there",
                    limited(name, longest_name));
    if (!is_to_system(model)) {
        if (!guest.empty())
            return fail(Errc::invalid_argument,
                        "a loan of access model {} to guest {}: it is for applications of the host; name no "
                        "guest",
                        pool::name(model), limited(guest, longest_name));
        if (dma != DmaMode::none)
            return fail(Errc::invalid_argument,
                        "a loan of access model {} in DMA mode {}: it is for applications of the host, and "
                        "the mode for its kernel; name none",
                        pool::name(model), pool::name(dma));
        return std::string();
    }
    if (!guest.empty()) {
        if (dma != DmaMode::none)
            return fail(Errc::invalid_argument,
                        "a loan to guest {} in DMA mode {}: that is how the host's own kernel borrows; name "
                        "the guest or the mode",
                        limited(guest, longest_name), pool::name(dma));
        return check_guest(name, guest);
    }
    if (!host->dma_modes.empty()) return std::string();
    if (dma != DmaMode::none)
        return fail(Errc::failed_precondition,
                    "host {} cannot borrow with its own kernel, in DMA mode {} or another: there is no "
                    "lanepool_bridge; load the module there, or leave out the mode; its guests: {}",
                    name, pool::name(dma), guests_of(*host));
    if (host->guests.empty())
        return fail(Errc::failed_precondition,
                    "host {} has no guest and no lanepool_bridge: nothing there could take a device; start a "
                    "guest, or load the module",
                    name);
    if (host->guests.size() > 1)
        return fail(Errc::invalid_argument, "host {} has several guests; name one of: {}", name,
                    guests_of(*host));
    return host->guests.front();
}

// Whether who is to receive it can, in the moment in which it starts; and if it is the host's own kernel, in
// which mode.
Result<DmaMode> Pool::check_receiver_now(const Loan& loan, const Device& device) const {
    if (!is_to_own_kernel(loan)) {
        if (is_to_system(loan.access_model)) TRY(check_guest(loan.borrower, loan.guest));
        return DmaMode::none;
    }
    Who who = policy_->requester(loan);
    who.tenant = loan.tenant;
    who.owner = loan.rule == owners_rule;
    const Rule* rule = who.owner ? TRY(policy_->admit(who, loan.borrower, device)) : &policy_->rule_of(loan);
    return policy_->dma(who, *rule, *ledger_.hosts.find(loan.borrower), loan.dma);
}

void Pool::note_attached(const Step& step, const Attached& attached) {
    const Loan* loan = ledger_.loans.find(step.loan);
    if (step.kind != StepKind::attach || !loan || !is_to_own_kernel(*loan)) return;
    ledger_.change(step.loan, [&](Loan& record) {
        record.dma_bytes = attached.dma_bytes;
        record.function = limited(attached.function, longest_name);
        record.driver = limited(attached.driver, longest_name);
    });
}

// ---- a return that asks first

// It was asked for and stays: as it was, and so is everything that was to follow.
void Pool::stays_in_use(const Step& step, const std::string& why) {
    const std::string reason = fmt::format("not given back: {}", why);
    ledger_.change(step.loan, [&](Loan& loan) { loan.reason = reason; });
    set_state(step.loan, LoanState::active, reason);
    unmark_local(step.fdid, reason);
    fail_successor(step.fdid, fmt::format("loan {} was {}", step.loan, reason));
    reflect(step.fdid);
    wants_decision();
}

// Somebody wants it back who does not ask. The answer to who did is not waited for any more.
void Pool::insist(LoanId id, const std::string& reason, uint32_t deadline_ms) {
    const Loan loan = *ledger_.loans.find(id);
    const Step* asked = awaited_by(loan);
    if (!asked || !asked->ask) return;
    ledger_.steps.erase(StepId(asked->id));
    ledger_.change(id, [&](Loan& record) { record.reason = limited(record.reason + "; then " + reason); });
    issue(StepKind::detach, loan.fdid, id, deadline_ms);
}

} // namespace lanepool::pool
