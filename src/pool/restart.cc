// SPDX-License-Identifier: Apache-2.0
//
// How a pool comes back from its stored records.
#include "pool/pool.h"

#include <algorithm>

namespace lanepool::pool {

namespace {
template <class... Args>
tl::unexpected<Error> contradiction(fmt::format_string<Args...> format, Args&&... args) {
    return fail(Errc::internal,
                "the stored records contradict each other: {}; restore an earlier copy of them",
                fmt::format(format, std::forward<Args>(args)...));
}

Result<> check_device(const Ledger& ledger, const Device& device) {
    if (!ledger.hosts.find(device.host))
        return contradiction("device {} sits in host {}, which does not exist", describe(device),
                             device.host);
    if (device.fdid >= ledger.counters.next_fdid)
        return contradiction("device {} has an fdid that was not given out", describe(device));
    if (device.loan) {
        const Loan* loan = ledger.loans.find(device.loan);
        if (!loan || loan->fdid != device.fdid || has_ended(loan->state) || loan->state == LoanState::queued)
            return contradiction("device {} is held by loan {}, which does not hold it", describe(device),
                                 device.loan);
    }
    if (device.successor) {
        const Loan* loan = ledger.loans.find(device.successor);
        if (!loan || loan->fdid != device.fdid || loan->state != LoanState::queued)
            return contradiction("loan {} does not wait for device {}", device.successor, describe(device));
    }
    if (device.state == DeviceState::available && (device.loan || !device.clean || device.with_host))
        return contradiction("device {} is available, but not free and clean", describe(device));
    return {};
}

// One of several that share a device.
bool is_beside_holder(const Ledger& ledger, const Loan& loan, const Device& device) {
    const Loan* holder = ledger.loans.find(device.loan);
    return holder && loan.state != LoanState::queued && loan.shared && holder->shared &&
           loan.epoch == holder->epoch;
}

// A wish has no device yet; a queued loan that has one waits for it by a reassignment.
Result<> check_loan(const Ledger& ledger, const Loan& loan) {
    if (loan.id >= ledger.counters.next_loan) return contradiction("loan {} was not given out", loan.id);
    const Device* device = ledger.devices.find(loan.fdid);
    if (has_ended(loan.state)) return {}; // its device may have been forgotten
    if (loan.fdid && !device)
        return contradiction("loan {} is of device {}, which does not exist", loan.id, loan.fdid);
    if (!ledger.hosts.find(loan.borrower))
        return contradiction("loan {} is of host {}, which does not exist", loan.id, loan.borrower);
    if (!device && (loan.state != LoanState::queued || loan.wanted.empty()))
        return contradiction("loan {} is {} and has no device", loan.id, name(loan.state));
    if (device && (loan.state == LoanState::queued ? device->successor : device->loan) != loan.id &&
        !is_beside_holder(ledger, loan, *device))
        return contradiction("device {} does not know of loan {}", describe(*device), loan.id);
    if (device && loan.epoch > device->epoch)
        return contradiction("loan {} has epoch {}, its device only {}", loan.id, loan.epoch, device->epoch);
    return {};
}

// None of a group starts alone.
Result<> check_group(const Ledger& ledger, const Loan& loan) {
    if (loan.group > loan.id) return contradiction("loan {} is in the group of a later one", loan.id);
    if (const auto others = ledger.live_loans_of_group(loan.group); !others.empty())
        if (const LoanId other = others.front();
            (ledger.loans.find(other)->state == LoanState::queued) != (loan.state == LoanState::queued))
            return contradiction("loans {} and {} are of one request, and one of them is queued alone",
                                 loan.id, other);
    return {};
}

// What each state waits for.
std::optional<StepKind> awaited_in(LoanState state) {
    switch (state) {
    case LoanState::preparing:
        return StepKind::prepare;
    case LoanState::attaching:
        return StepKind::attach;
    case LoanState::quiescing:
        return StepKind::detach;
    case LoanState::detaching:
        return StepKind::cut;
    case LoanState::resetting:
        return StepKind::reset;
    default:
        return std::nullopt;
    }
}

// What else a loan may wait for: where its device was found with its own host, the recovery begins anew.
bool may_await(LoanState state, StepKind kind) {
    switch (kind) {
    case StepKind::expel:
        return state == LoanState::detaching;
    case StepKind::take:
    case StepKind::give_back:
        return state == LoanState::detaching || state == LoanState::resetting;
    case StepKind::cut:
    case StepKind::sanitize:
        return state == LoanState::resetting;
    default:
        return false;
    }
}

// A loan that nothing moves on would stay for ever.
Result<> check_awaited(const Loan& loan, const Step* step) {
    const auto wanted = awaited_in(loan.state);
    if (loan.state == LoanState::reserved)
        return contradiction("loan {} is still reserved, without a step", loan.id);
    if (!wanted) return {};
    // Of a recovery there is one step for all that share the device.
    const bool recovering = step && step->kind != StepKind::expel &&
                            (loan.state == LoanState::detaching || loan.state == LoanState::resetting);
    const bool another = step && may_await(loan.state, step->kind);
    if (!step || (step->loan != loan.id && !recovering) || (step->kind != *wanted && !another))
        return contradiction("loan {} is {} without that step", loan.id, name(loan.state));
    return {};
}
} // namespace

Result<std::unique_ptr<Pool>> Pool::create(const Snapshot& stored, Site site, const Options& options,
                                           Now now) {
    std::unique_ptr<Pool> pool(new Pool(std::move(site), options));
    TRY(pool->load(stored));
    pool->begin(now, std::string_view("controller"));
    pool->restart();
    return pool;
}

Result<> Pool::load(const Snapshot& stored) {
    for (const Host& host : stored.hosts)
        ledger_.hosts.put(host.name, host);
    for (const Device& device : stored.devices)
        ledger_.devices.put(device.fdid, device);
    for (Loan loan : stored.loans) {
        if (!loan.group) loan.group = loan.id;
        ledger_.loans.put(loan.id, loan);
    }
    for (const Step& step : stored.steps)
        ledger_.steps.put(step.id, step);
    for (const Usage& used : stored.usage)
        ledger_.usage.put(used.tenant, used);
    ledger_.counters = stored.counters;
    for (const auto& [fdid, device] : ledger_.devices.all())
        TRY(check_device(ledger_, device));
    for (const auto& [id, loan] : ledger_.loans.all()) {
        TRY(check_loan(ledger_, loan));
        if (!has_ended(loan.state)) TRY(check_group(ledger_, loan));
        TRY(check_awaited(loan, awaited_by(loan)));
    }
    for (const auto& [id, step] : ledger_.steps.all())
        if (id >= ledger_.counters.next_step || !ledger_.hosts.find(step.host))
            return contradiction("step {} of host {} was not given out", id, step.host);
    ledger_.commit();
    return {};
}

// Nobody is connected, and no deadline of the run before means anything on this clock.
void Pool::restart() {
    const int64_t grace = now_.steady_us + int64_t{options_.restart_grace_ms} * 1000;
    std::vector<std::string> hosts;
    for (const auto& [host, record] : ledger_.hosts.all())
        hosts.push_back(host);
    for (const auto& host : hosts) {
        ledger_.change(host, [&](Host& record) {
            record.up = false;
            record.borrower_grace_steady_us = grace;
            record.lender_grace_steady_us = grace;
        });
        for (const Fdid fdid : ledger_.devices_of(host))
            if (ledger_.devices.find(fdid)->state != DeviceState::quarantined)
                set_state(fdid, DeviceState::offline,
                          fmt::format(
                              "the controller was restarted and has not heard from the agent of host {} yet",
                              host));
        for (const StepId id : ledger_.steps_of(host)) {
            if (ledger_.steps.find(id)->cleanup)
                ledger_.steps.erase(id);
            else
                ledger_.change(id, [](Step& step) {
                    step.sent = 0;
                    step.sent_steady_us = 0;
                    step.deadline_steady_us = 0;
                });
        }
    }
    // Due times, and how long wishes wait, are told by the wall clock from one run to the next. 0 would mean
    // "none".
    const auto steady_us = [&](int64_t unix_us) {
        return unix_us == 0 ? 0 : std::max<int64_t>(1, now_.steady_us + (unix_us - now_.unix_us));
    };
    std::vector<LoanId> live;
    for (const auto& [id, loan] : ledger_.loans.all())
        if (!has_ended(loan.state)) live.push_back(id);
    for (const LoanId id : live)
        ledger_.loans.set(id, [&](Loan& loan) {
            loan.due_steady_us = steady_us(loan.due_us);
            loan.wait_until_steady_us = steady_us(loan.wait_until_us);
            loan.warn_steady_us = warning_steady_us(loan.due_steady_us);
            loan.crash_steady_us = 0;
        });
    for (const auto& host : hosts)
        wait_for_borrower(host, int64_t{options_.restart_grace_ms} * 1000);
}

} // namespace lanepool::pool
