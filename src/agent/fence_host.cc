// SPDX-License-Identifier: Apache-2.0
//
// The fence of a device that its own host can use, too.
#include "agent/fence.h"

#include <algorithm>

namespace lanepool::agent {

int64_t LenderFence::limit_us(const Pending& step, int64_t now_us) {
    return std::max<int64_t>(1, step.deadline_us - now_us);
}

void LenderFence::local(int64_t now_us) {
    if (state_ != State::absent) return;
    become_local();
    set_answering(true);
    retry_waiting(now_us);
}

// What it was trusted with is in its own host's hands. Where that cannot be written down now it is when the
// device is taken, or it is not taken.
void LenderFence::become_local() {
    state_ = State::local;
    reached_ = false;
    problem_.clear();
    if (record_.clean) static_cast<void>(store({record_.epoch, false, {}}));
}

void LenderFence::while_with_host(const Pending& pending) {
    if (state_ == State::giving_back) return wait(pending);
    ports_.answer(pending.order,
                  fail(Errc::failed_precondition,
                       "device {} is its own host's: it is not lent before it has been taken", device_));
}

// ---- steps

void LenderFence::take(const Pending& pending, int64_t now_us) {
    if (!host_) return ports_.answer(pending.order, {});
    switch (state_) {
    case State::taking:
        return at_it_.push_back(pending);
    case State::absent:
    case State::giving_back:
    case State::changing:
        return wait(pending);
    case State::local:
        break;
    default: // it is
        return ports_.answer(pending.order, {});
    }
    if (auto stored = raise(pending.order.step.epoch); !stored)
        return ports_.answer(pending.order, std::move(stored));
    const uint64_t operation = start(State::taking);
    at_it_.push_back(pending);
    host_->take(operation, limit_us(pending, now_us));
}

// Also of a device that does not answer: its own host's driver may know better.
void LenderFence::give_back(const Pending& pending, int64_t now_us) {
    if (!host_) return ports_.answer(pending.order, {});
    if (!lent_.empty())
        return ports_.answer(pending.order,
                             fail(Errc::failed_precondition,
                                  "device {} is lent by loan {}: cut it before it is given back", device_,
                                  lent_.front().opening.loan));
    if (state_ == State::giving_back) return at_it_.push_back(pending);
    if (under_way()) return wait(pending);
    if (auto stored = raise(pending.order.step.epoch); !stored)
        return ports_.answer(pending.order, std::move(stored));
    if (state_ == State::local) return ports_.answer(pending.order, {});
    const uint64_t operation = start(State::giving_back);
    at_it_.push_back(pending);
    host_->give_back(operation, limit_us(pending, now_us));
}

void LenderFence::set_functions(const Pending& pending, int64_t now_us) {
    if (!host_)
        return ports_.answer(pending.order, fail(Errc::not_supported,
                                                 "device {} is not one of its host's own buses: it has no "
                                                 "SR-IOV functions to make",
                                                 device_));
    if (state_ == State::absent || (with_host() && state_ != State::local)) return wait(pending);
    if (state_ != State::local)
        return ports_.answer(pending.order,
                             fail(Errc::failed_precondition,
                                  "device {} is not its own host's: give it back before its SR-IOV functions "
                                  "are made or removed",
                                  device_));
    const uint64_t operation = start(State::changing);
    at_it_.push_back(pending);
    host_->set_functions(operation, pending.order.step.functions, limit_us(pending, now_us));
}

// ---- operations

void LenderFence::taken(const std::vector<Pending>& steps, const Result<>& result) {
    if (result) {
        state_ = State::unverified;
        reached_ = true;
    } else {
        become_local();
    }
    for (const Pending& step : steps)
        ports_.answer(step.order, result);
}

void LenderFence::given_back(const std::vector<Pending>& steps, const Result<>& result) {
    if (result) {
        become_local();
        set_answering(true);
    } else {
        state_ = State::absent;
        problem_ = result.error().message();
        reached_ = false;
        set_answering(false);
    }
    for (const Pending& step : steps)
        ports_.answer(step.order, result);
}

void LenderFence::changed_functions(const std::vector<Pending>& steps, const Result<>& result) {
    state_ = State::local;
    for (const Pending& step : steps)
        ports_.answer(step.order, result);
}

} // namespace lanepool::agent
