// SPDX-License-Identifier: Apache-2.0
//
// From a wish to a loan: what the scheduler decides is carried out here, and a group gets all or nothing.
#include "pool/fair_share.h"
#include "pool/pool.h"

namespace lanepool::pool {

namespace {
// After a decision that could not look at everybody: other inputs come first.
constexpr int64_t next_look_us = 1000;
} // namespace

// The device is available, and the loan is queued.
// DMA: what its receiver takes it in.
void Pool::start(LoanId id, Fdid fdid, const std::string& reservation, DmaMode dma) {
    raise_epoch(fdid);
    ledger_.change(fdid, [&](Device& device) {
        device.loan = id;
        device.clean = false;
    });
    const Epoch epoch = ledger_.devices.find(fdid)->epoch;
    const bool is_part = !ledger_.devices.find(fdid)->parent.empty();
    ledger_.change(id, [&](Loan& loan) {
        loan.fdid = fdid;
        loan.epoch = epoch;
        loan.reservation = reservation;
        loan.dma = dma;
        loan.reason.clear();
        if (is_part && is_to_system(loan.access_model)) loan.access_model = AccessModel::vf;
    });
    set_state(id, LoanState::reserved, reservation.empty() ? std::string() : "reservation " + reservation);
    set_state(fdid, DeviceState::reserved, {});
    set_state(id, LoanState::preparing, {});
    issue(StepKind::prepare, fdid, id, options_.prepare_ms);
}

// The device has just become available.
void Pool::start_successor(Fdid fdid) {
    const Device device = *ledger_.devices.find(fdid);
    const Loan* found = ledger_.loans.find(device.successor);
    if (!found) return;
    const Loan waiting = *found;
    if (auto host = check_host(waiting.borrower); !host) return fail_successor(fdid, host.error().message());
    const auto dma = check_receiver_now(waiting, device);
    if (!dma) return fail_successor(fdid, dma.error().message());
    if (auto available = check_available(device); !available)
        return fail_successor(fdid, available.error().message());
    ledger_.change(fdid, [](Device& record) { record.successor = {}; });
    start(device.successor, fdid, {}, *dma);
}

// Asks the scheduler, once for all that has changed.
void Pool::serve_queue() {
    if (!decision_wanted_) return;
    decision_wanted_ = false;
    decision_steady_us_ = 0;
    if (ledger_.wishes() == 0) return;
    begin(now_, "controller");
    const Decision decision = scheduler_->decide(now_);
    for (size_t begin = 0, end = 0; begin < decision.starts.size(); begin = end) {
        const auto group = [&](size_t at) { return ledger_.loans.find(decision.starts[at].loan)->group; };
        while (end < decision.starts.size() && group(end) == group(begin))
            ++end;
        start_group({decision.starts.begin() + static_cast<ptrdiff_t>(begin),
                     decision.starts.begin() + static_cast<ptrdiff_t>(end)});
    }
    for (const Preemption& one : decision.preemptions)
        preempt(one.victim, one.winner);
    for (const Waiting& waiting : decision.waiting)
        for (const LoanId id : ledger_.live_loans_of_group(waiting.group)) {
            const Loan& loan = *ledger_.loans.find(id);
            if (loan.state != LoanState::queued) continue;
            if (std::string why = limited(waiting.why); loan.reason != why)
                ledger_.change(id, [&](Loan& record) { record.reason = std::move(why); });
        }
    settle_groups();
    // What a wish that could not start has left may be for the next one.
    if (decision.more || decision_wanted_) decision_steady_us_ = now_.steady_us + next_look_us;
    if (const auto tell_us = decision.tell_again_steady_us)
        if (decision_steady_us_ == 0 || *tell_us < decision_steady_us_) decision_steady_us_ = *tell_us;
    if (const auto change_us = scheduler_->next_change_us(now_)) {
        // Looked at again an hour from now at the latest: the wall clock may have been set by then.
        constexpr int64_t longest_us = 3'600'000'000;
        const int64_t at_us =
            now_.steady_us + std::clamp<int64_t>(*change_us - now_.unix_us, next_look_us, longest_us);
        if (decision_steady_us_ == 0 || at_us < decision_steady_us_) decision_steady_us_ = at_us;
    }
}

// The wishes of one request, of which none starts alone.
void Pool::start_group(const std::vector<Start>& starts) {
    std::vector<DmaMode> dma;
    for (const Start& one : starts) {
        // The scheduler does not know receivers: one that has gone since cannot take anything.
        const auto taken = check_receiver_now(*ledger_.loans.find(one.loan), *ledger_.devices.find(one.fdid));
        if (!taken) return end_wish(one.loan, LoanState::failed, taken.error().message());
        dma.push_back(*taken);
    }
    for (size_t i = 0; i < starts.size(); ++i)
        start(starts[i].loan, starts[i].fdid, starts[i].reservation, dma[i]);
}

// With it goes its whole group.
void Pool::end_wish(LoanId id, LoanState how, const std::string& reason) {
    for (const LoanId other : ledger_.live_loans_of_group(ledger_.loans.find(id)->group))
        if (ledger_.loans.find(other)->state == LoanState::queued)
            end(other, how,
                other == id ? reason : fmt::format("with loan {} of the same request: {}", id, reason));
}

// What is left of groups of which one has ended before all were active is given back.
void Pool::settle_groups() {
    while (!broken_groups_.empty() && !defect_) {
        const auto broken = std::exchange(broken_groups_, {});
        for (const auto& [group, reason] : broken)
            for (const LoanId id : ledger_.live_loans_of_group(group)) {
                const Loan* loan = ledger_.loans.find(id);
                if (!loan || has_ended(loan->state)) continue;
                if (loan->state == LoanState::queued)
                    end(id, LoanState::failed, reason);
                else
                    start_return(id, limited(reason), options_.detach_ms);
            }
    }
}

} // namespace lanepool::pool
