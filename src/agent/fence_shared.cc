// SPDX-License-Identifier: Apache-2.0
//
// The fence of a device that several shared loans have side by side.
#include "agent/fence.h"

#include <algorithm>

namespace lanepool::agent {

namespace {
// How many are remembered one by one, of an epoch in which many come and go.
constexpr size_t most_expelled = 1024;
} // namespace

std::vector<Opening> LenderFence::openings() const {
    std::vector<Opening> all;
    for (const Lent& lent : lent_)
        all.push_back(lent.opening);
    return all;
}

LenderFence::Lent* LenderFence::find(pool::LoanId loan) {
    const auto found =
        std::find_if(lent_.begin(), lent_.end(), [&](const Lent& lent) { return lent.opening.loan == loan; });
    return found == lent_.end() ? nullptr : &*found;
}

void LenderFence::drop(pool::LoanId loan) {
    std::erase_if(lent_, [&](const Lent& lent) { return lent.opening.loan == loan; });
}

// Whether it can be let in beside those that are open. That the device is not clean and of which epoch it is
// is on disk already.
bool LenderFence::may_join(const Opening& wanted) const {
    return wanted.shared && is_lent() && wanted.epoch.value == record_.epoch && !was_expelled(wanted.loan) &&
           std::all_of(lent_.begin(), lent_.end(), [&](const Lent& lent) {
               return lent.opening.shared && lent.opening.epoch == wanted.epoch &&
                      lent.opening.loan != wanted.loan;
           });
}

// ---- one goes

// A prepare of it that comes late finds the epoch unchanged: it is told by its number.
bool LenderFence::was_expelled(pool::LoanId loan) const {
    return loan <= expelled_before_ || expelled_.contains(loan);
}

// Where there are too many, all that are older than the oldest are taken for expelled: numbers of loans only
// grow.
void LenderFence::note_expelled(pool::LoanId loan) {
    expelled_.insert(loan);
    if (expelled_.size() <= most_expelled) return;
    expelled_before_ = *expelled_.begin();
    expelled_.erase(expelled_.begin());
}

void LenderFence::forget_expelled() {
    expelled_.clear();
    expelled_before_ = {};
}

void LenderFence::expel(const Pending& pending) {
    const pool::Step& step = pending.order.step;
    note_expelled(step.loan);
    Lent* lent = find(step.loan);
    if (!lent) return ports_.answer(pending.order, {});
    lent->announced = lent->going = true;
    lent->lease_until_us = 0;
    if (state_ == State::closing || (state_ == State::expelling && moving_ == step.loan))
        return at_it_.push_back(pending);
    if (under_way()) return wait(pending);
    begin_expulsion(step.loan);
    at_it_.push_back(pending);
}

void LenderFence::begin_expulsion(pool::LoanId loan) {
    if (lent_.size() == 1) return close(); // nobody is left who is to keep his ways
    const uint64_t operation = start(State::expelling);
    moving_ = loan;
    ports_.expel(operation, find(loan)->opening);
}

void LenderFence::expelled(const std::vector<Pending>& steps, const Result<>& result) {
    drop(moving_);
    state_ = lent_.empty() ? State::unverified : State::open;
    if (!result)
        close_all_for(fmt::format("loan {} could not be expelled: {}", moving_, result.error().message()));
    for (const Pending& step : steps)
        ports_.answer(step.order, result);
}

// Nobody is to have a device of which it is not known who has it.
void LenderFence::close_all_for(const std::string& reason) {
    close();
    lose_all(reason);
}

// ---- leases

void LenderFence::leases_ran_out(int64_t now_us) {
    if (state_ == State::closing) return;
    std::vector<pool::LoanId> lapsed;
    for (Lent& lent : lent_) {
        if (lent.lease_until_us == 0 || lent.lease_until_us > now_us) continue;
        lent.lease_until_us = 0;
        lent.going = true;
        lapsed.push_back(lent.opening.loan);
    }
    if (lapsed.empty()) return;
    const auto text = [](pool::LoanId loan) {
        return fmt::format("the lease of loan {} has run out, and nobody has extended it", loan);
    };
    if (std::all_of(lent_.begin(), lent_.end(), [](const Lent& lent) { return lent.going; })) {
        const bool expelling = state_ == State::expelling;
        auto steps = end_operation();
        close();
        if (expelling) at_it_.swap(steps); // the answer is that of the close
        for (const Pending& step : steps)
            ports_.answer(step.order, fail(Errc::cancelled, "{}", text(lapsed.front())));
    } else {
        for (const pool::LoanId loan : lapsed)
            note_expelled(loan);
        if (!under_way()) expel_next();
    }
    for (const pool::LoanId loan : lapsed)
        lose(*find(loan), text(loan));
}

// Those whose leases have run out, one after the other.
void LenderFence::expel_next() {
    if (state_ != State::open) return;
    const auto going = std::find_if(lent_.begin(), lent_.end(), [](const Lent& lent) { return lent.going; });
    if (going != lent_.end()) begin_expulsion(going->opening.loan);
}

} // namespace lanepool::agent
