// SPDX-License-Identifier: Apache-2.0
#include "agent/fence.h"

#include <algorithm>
#include <array>

namespace lanepool::agent {

using pool::StepKind;

namespace {
// More than a controller ever has under way for one device: some for each that shares it (Options of the
// pool, loans_per_device).
constexpr size_t most_pending = 256;
// How long after a failure it is tried again whether the device comes back from a reset.
constexpr int64_t reset_retry_us = 5'000'000;
} // namespace

std::string_view name(LenderFence::State state) {
    constexpr std::array<std::string_view, 15> names = {
        "absent",    "its own host's", "being taken", "being given back", "its own host's",
        "verifying", "unverified",     "ready",       "opening",          "open",
        "expelling", "closing",        "resetting",   "sanitizing",       "broken"};
    return names.at(static_cast<size_t>(state));
}

LenderFence::LenderFence(std::string device, DeviceRecord found, FencePorts& ports, HostPorts* host)
    : device_(std::move(device)), record_(std::move(found)), ports_(ports), host_(host) {}

FenceObservation LenderFence::observed() const {
    FenceObservation seen;
    seen.local = state_ == State::local || state_ == State::taking || state_ == State::changing;
    seen.answering = answering_;
    seen.clean = record_.clean && !seen.local;
    seen.epoch = {record_.epoch};
    for (const Lent& lent : lent_) {
        if (!seen.loan)
            seen.loan = lent.opening.loan;
        else
            seen.joined.push_back(lent.opening.loan);
    }
    seen.problem = problem_.empty() ? record_.problem : problem_;
    return seen;
}

// ---- the device comes and goes

void LenderFence::exchanged(DeviceRecord found) {
    if (state_ != State::absent) return;
    for (const Pending& step : std::exchange(waiting_, {}))
        ports_.answer(step.order, fail(Errc::not_found, "device {} was exchanged for another one", device_));
    record_ = std::move(found);
    forget_expelled();
    reset_done_ = sanitize_done_ = {};
}

void LenderFence::present(bool windows_open) {
    if (state_ != State::absent) return;
    problem_ = "it is being reset";
    if (windows_open)
        close();
    else
        first_reset();
}

void LenderFence::first_reset() {
    const uint64_t operation = start(State::verifying);
    ports_.reset(operation);
}

void LenderFence::absent(const std::string& reason) {
    problem_ = reason;
    if (state_ == State::absent) return;
    state_ = State::absent;
    retry_us_ = 0;
    reached_ = answering_ = false;
    const auto steps = end_operation();
    lose_all(reason);
    lent_.clear();
    for (const Pending& step : steps) {
        switch (step.order.step.kind) {
        case StepKind::expel:
        case StepKind::cut: // nothing is open any more
            ports_.answer(step.order, {});
            break;
        case StepKind::reset:
        case StepKind::sanitize: // begun again when it is back
            wait(step);
            break;
        default:
            ports_.answer(step.order, fail(Errc::unavailable, "{}", reason));
        }
    }
}

void LenderFence::stop(const std::string& reason) {
    auto steps = end_operation();
    for (auto& step : waiting_)
        steps.push_back(std::move(step));
    waiting_.clear();
    for (const Pending& step : steps)
        ports_.answer(step.order, fail(Errc::cancelled, "{}", reason));
}

// ---- steps

void LenderFence::perform(const pool::Order& order, int64_t now_us) {
    if (at_it_.size() + waiting_.size() >= most_pending)
        return ports_.answer(order, fail(Errc::busy, "{} steps for device {} wait already",
                                         at_it_.size() + waiting_.size(), device_));
    // The answer should come before the controller gives up waiting for it.
    begin({order, now_us + int64_t{order.step.deadline_ms} * 900}, now_us);
}

void LenderFence::begin(const Pending& pending, int64_t now_us) {
    const pool::Step& step = pending.order.step;
    if (step.epoch.value < record_.epoch)
        return ports_.answer(pending.order,
                             fail(Errc::stale_epoch, "device {} is at epoch {}, this step is of epoch {}",
                                  device_, record_.epoch, step.epoch));
    switch (step.kind) {
    case StepKind::take:
        return take(pending, now_us);
    case StepKind::give_back:
        return give_back(pending, now_us);
    case StepKind::set_functions:
        return set_functions(pending, now_us);
    default:
        break;
    }
    if (with_host()) return while_with_host(pending);
    switch (step.kind) {
    case StepKind::prepare:
        return prepare(pending, now_us);
    case StepKind::cut:
        return cut(pending);
    case StepKind::expel:
        return expel(pending);
    case StepKind::reset:
        return reset(pending);
    case StepKind::sanitize:
        return sanitize(pending, now_us);
    case StepKind::extend:
        return extend(pending, now_us);
    default:
        return ports_.answer(pending.order,
                             fail(Errc::not_supported, "a lender has no step {}", pool::name(step.kind)));
    }
}

void LenderFence::wait(const Pending& step) { waiting_.push_back(step); }

void LenderFence::retry_waiting(int64_t now_us) {
    for (const Pending& step : std::exchange(waiting_, {}))
        begin(step, now_us);
}

void LenderFence::prepare(const Pending& pending, int64_t now_us) {
    const pool::Order& order = pending.order;
    const bool shared = order.shared && order.access_model == pool::AccessModel::smartio;
    const Opening wanted{order.step.loan, order.step.epoch, order.borrower_partition, shared};
    const Lent* here = find(wanted.loan);
    if (here && here->opening == wanted && is_lent() && !here->going) {
        if (state_ == State::opening && moving_ == wanted.loan) return at_it_.push_back(pending);
        return ports_.answer(order, {});
    }
    const bool joins = may_join(wanted);
    if (!joins && wanted.epoch.value <= record_.epoch)
        return ports_.answer(order, fail(Errc::stale_epoch,
                                         "epoch {} is not newer than {}, which device {} has seen",
                                         wanted.epoch, record_.epoch, device_));
    if (!joins && !lent_.empty()) {
        const Opening& opening = lent_.front().opening;
        return ports_.answer(order, fail(Errc::busy,
                                         "device {} is lent to partition {} by loan {}; cut that one first",
                                         device_, opening.borrower_partition, opening.loan));
    }
    if (state_ == State::absent || under_way()) return wait(pending);
    if (!joins) {
        if (state_ != State::ready)
            return ports_.answer(order, fail(Errc::failed_precondition,
                                             "device {} is {}: reset it before it is lent{}{}", device_,
                                             name(state_), problem_.empty() ? "" : "; ", problem_));
        if (!record_.clean)
            return ports_.answer(order, fail(Errc::failed_precondition,
                                             "device {} has not been reset and sanitized since its last use",
                                             device_));
        if (auto stored = store({wanted.epoch.value, false, {}}); !stored)
            return ports_.answer(order, std::move(stored));
    }
    lent_.push_back({wanted, 0, {}, false, false});
    arm_lease(lent_.back(), order.step, now_us);
    const uint64_t operation = start(State::opening);
    moving_ = wanted.loan;
    at_it_.push_back(pending);
    ports_.open(operation, wanted);
}

// Closes in any case: that it could not be written down is a reason to say so, not to leave a way open.
void LenderFence::cut(const Pending& pending) {
    auto stored = raise(pending.order.step.epoch);
    if (!stored) {
        record_ = {pending.order.step.epoch.value, false, {}};
        forget_expelled();
    }
    if (lent_.empty() && state_ != State::closing) return ports_.answer(pending.order, std::move(stored));
    for (Lent& lent : lent_)
        lent.announced = true;
    if (state_ != State::closing) {
        const std::string_view doing = state_ == State::expelling ? "expelled" : "prepared";
        for (const Pending& step : end_operation())
            ports_.answer(step.order, fail(Errc::cancelled, "the loan was cut while it was being {}", doing));
        close();
    }
    cut_stored_ = cut_stored_ && stored.has_value();
    at_it_.push_back(pending);
}

void LenderFence::reset(const Pending& pending) {
    const pool::Step& step = pending.order.step;
    if (is_lent())
        return ports_.answer(pending.order, fail(Errc::failed_precondition,
                                                 "device {} is lent by loan {}: cut it before it is reset",
                                                 device_, lent_.front().opening.loan));
    if (state_ == State::absent || under_way()) return wait(pending);
    if (state_ == State::ready && step.id == reset_done_ && step.epoch.value == record_.epoch)
        return ports_.answer(pending.order, {});
    if (auto stored = raise(step.epoch); !stored) return ports_.answer(pending.order, std::move(stored));
    const uint64_t operation = start(State::resetting);
    at_it_.push_back(pending);
    ports_.reset(operation);
}

void LenderFence::sanitize(const Pending& pending, int64_t now_us) {
    const pool::Step& step = pending.order.step;
    if (state_ == State::absent || (under_way() && !is_lent())) return wait(pending);
    if (record_.clean && step.id == sanitize_done_ && step.epoch.value == record_.epoch)
        return ports_.answer(pending.order, {});
    if (state_ != State::ready)
        return ports_.answer(pending.order,
                             fail(Errc::failed_precondition,
                                  "device {} is {}: reset it before it is sanitized", device_, name(state_)));
    if (auto stored = raise(step.epoch); !stored) return ports_.answer(pending.order, std::move(stored));
    const uint64_t operation = start(State::sanitizing);
    at_it_.push_back(pending);
    ports_.sanitize(operation, std::max<int64_t>(1, pending.deadline_us - now_us));
}

void LenderFence::extend(const Pending& pending, int64_t now_us) {
    const pool::Step& step = pending.order.step;
    Lent* lent = find(step.loan);
    if (!is_lent() || !lent || lent->opening.epoch != step.epoch || lent->going)
        return ports_.answer(pending.order,
                             fail(Errc::failed_precondition, "device {} is not lent by loan {} at epoch {}",
                                  device_, step.loan, step.epoch));
    arm_lease(*lent, step, now_us);
    ports_.answer(pending.order, {});
}

// Of two that overtake each other the later one counts, and one that comes twice does not count again.
void LenderFence::arm_lease(Lent& lent, const pool::Step& step, int64_t now_us) {
    if (step.id <= lent.lease_step || lent.going) return;
    lent.lease_step = step.id;
    constexpr int64_t longest_ms = INT64_MAX / 4000;
    lent.lease_until_us = step.lease_ms > 0 ? now_us + std::min(step.lease_ms, longest_ms) * 1000 : 0;
}

// ---- operations

uint64_t LenderFence::start(State state) {
    state_ = state;
    retry_us_ = 0;
    operation_ = next_operation_++;
    return operation_;
}

std::vector<LenderFence::Pending> LenderFence::end_operation() {
    operation_ = 0;
    return std::exchange(at_it_, {});
}

void LenderFence::close() {
    cut_stored_ = true;
    for (Lent& lent : lent_)
        lent.lease_until_us = 0;
    const uint64_t operation = start(State::closing);
    ports_.close(operation, {record_.epoch});
}

void LenderFence::finished(uint64_t operation, Result<> result, int64_t now_us) {
    if (operation != operation_ || operation == 0) return; // overtaken by a cut, or of a device that has gone
    const auto steps = end_operation();
    switch (state_) {
    case State::opening:
        opened(steps, result);
        break;
    case State::expelling:
        expelled(steps, result);
        break;
    case State::closing:
        closed(steps, result);
        break;
    case State::verifying:
    case State::resetting:
        was_reset(steps, std::move(result));
        break;
    case State::sanitizing:
        sanitized(steps, std::move(result));
        break;
    case State::taking:
        taken(steps, result);
        break;
    case State::giving_back:
        given_back(steps, result);
        break;
    case State::changing:
        changed_functions(steps, result);
        break;
    default:
        return;
    }
    if (state_ == State::broken) retry_us_ = now_us + reset_retry_us;
    if (!under_way()) expel_next();
    if (!under_way()) retry_waiting(now_us);
}

void LenderFence::opened(const std::vector<Pending>& steps, const Result<>& result) {
    if (result) {
        state_ = State::open;
    } else {
        drop(moving_);
        state_ = lent_.empty() ? State::unverified : State::open;
        // Whether it is open is in doubt.
        if (result.error().code() == Errc::timeout && lent_.empty()) failed(result.error().message());
        if (result.error().code() == Errc::timeout && !lent_.empty()) close_all_for(result.error().message());
    }
    for (const Pending& step : steps)
        ports_.answer(step.order, result);
}

void LenderFence::closed(const std::vector<Pending>& steps, const Result<>& result) {
    lent_.clear();
    state_ = State::unverified;
    if (!result) failed(result.error().message());
    for (const Pending& step : steps) {
        if (!cut_stored_ && result)
            ports_.answer(
                step.order,
                fail(Errc::io, "device {} is cut off, but its epoch could not be written down", device_));
        else
            ports_.answer(step.order, result);
    }
    if (!reached_) first_reset();
}

void LenderFence::was_reset(const std::vector<Pending>& steps, Result<> result) {
    reset_done_ = {};
    if (result) {
        reached_ = true;
        state_ = State::ready;
        problem_.clear();
        set_answering(true);
    } else {
        failed(result.error().message());
    }
    for (const Pending& pending : steps) {
        const pool::Step& step = pending.order.step;
        Result<> answer = result;
        if (answer && step.epoch.value != record_.epoch)
            answer =
                fail(Errc::stale_epoch, "device {} has come to epoch {} meanwhile", device_, record_.epoch);
        if (answer && step.suffices) answer = store({record_.epoch, true, {}});
        if (answer) reset_done_ = step.id;
        ports_.answer(pending.order, std::move(answer));
    }
}

void LenderFence::sanitized(const std::vector<Pending>& steps, Result<> result) {
    sanitize_done_ = {};
    state_ = State::ready;
    if (!result) failed(result.error().message());
    for (const Pending& pending : steps) {
        const pool::Step& step = pending.order.step;
        Result<> answer = result;
        if (answer && step.epoch.value != record_.epoch)
            answer =
                fail(Errc::stale_epoch, "device {} has come to epoch {} meanwhile", device_, record_.epoch);
        if (answer) answer = store({record_.epoch, true, {}});
        if (answer) sanitize_done_ = step.id;
        ports_.answer(pending.order, std::move(answer));
    }
}

// What it was trusted with is in doubt: only a reset that verifies makes it usable. Why is written down for
// whoever looks after a restart; that it is not clean is on disk already.
void LenderFence::failed(const std::string& problem) {
    state_ = State::broken;
    problem_ = problem;
    set_answering(false);
    if (record_.problem != problem) static_cast<void>(store({record_.epoch, false, problem}));
}

void LenderFence::set_answering(bool answering) {
    if (std::exchange(answering_, answering) != answering) ports_.changed();
}

Result<> LenderFence::store(const DeviceRecord& record) {
    TRY(ports_.store(record));
    if (record.epoch != record_.epoch) forget_expelled();
    record_ = record;
    return {};
}

// Whoever raises the epoch ends a loan of the device, or begins to make it new: either way it is not clean.
Result<> LenderFence::raise(pool::Epoch epoch) {
    if (epoch.value == record_.epoch && !record_.clean) return {};
    return store({epoch.value, false, {}});
}

// ---- time

void LenderFence::lose(Lent& lent, const std::string& reason) {
    if (std::exchange(lent.announced, true)) return;
    ports_.lost(lent.opening, reason);
}

void LenderFence::lose_all(const std::string& reason) {
    for (Lent& lent : lent_)
        lose(lent, reason);
}

void LenderFence::tick(int64_t now_us) {
    leases_ran_out(now_us);
    if (retry_us_ != 0 && retry_us_ <= now_us) first_reset();
    for (auto step = waiting_.begin(); step != waiting_.end();) {
        if (step->deadline_us > now_us) {
            ++step;
            continue;
        }
        const Pending expired = *step;
        step = waiting_.erase(step);
        ports_.answer(expired.order, fail(Errc::unavailable, "device {} is {}{}{}", device_,
                                          state_ == State::absent ? "not there" : name(state_),
                                          problem_.empty() ? "" : ": ", problem_));
    }
}

std::optional<int64_t> LenderFence::next_tick_us() const {
    std::optional<int64_t> next;
    const auto at = [&](int64_t time_us) {
        if (time_us != 0) next = next ? std::min(*next, time_us) : time_us;
    };
    at(retry_us_);
    for (const Lent& lent : lent_)
        at(lent.lease_until_us);
    for (const Pending& step : waiting_)
        at(step.deadline_us);
    return next;
}

} // namespace lanepool::agent
