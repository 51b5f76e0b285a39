// SPDX-License-Identifier: Apache-2.0
#include "agent/fence.h"

#include <algorithm>
#include <array>

namespace lanepool::agent {

using pool::StepKind;

namespace {
// More than a controller ever has under way for one device.
constexpr size_t most_pending = 64;
// How long after a failure it is tried again whether the device comes back from a reset.
constexpr int64_t reset_retry_us = 5'000'000;
} // namespace

std::string_view name(LenderFence::State state) {
    constexpr std::array<std::string_view, 10> names = {"absent",     "verifying", "unverified", "ready",
                                                        "opening",    "open",      "closing",    "resetting",
                                                        "sanitizing", "broken"};
    return names.at(static_cast<size_t>(state));
}

LenderFence::LenderFence(std::string device, DeviceRecord found, FencePorts& ports)
    : device_(std::move(device)), record_(std::move(found)), ports_(ports) {}

FenceObservation LenderFence::observed() const {
    FenceObservation seen;
    seen.answering = answering_;
    seen.clean = record_.clean;
    seen.epoch = {record_.epoch};
    if (loan_) seen.loan = loan_->loan;
    seen.problem = problem_.empty() ? record_.problem : problem_;
    return seen;
}

// ---- the device comes and goes

void LenderFence::exchanged(DeviceRecord found) {
    if (state_ != State::absent) return;
    for (const Pending& step : std::exchange(waiting_, {}))
        ports_.answer(step.order, fail(Errc::not_found, "device {} was exchanged for another one", device_));
    record_ = std::move(found);
    lease_step_ = {};
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
    lose(reason);
    loan_.reset();
    lease_until_us_ = 0;
    for (const Pending& step : steps) {
        switch (step.order.step.kind) {
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
    case StepKind::prepare:
        return prepare(pending, now_us);
    case StepKind::cut:
        return cut(pending);
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
    const Opening wanted{order.step.loan, order.step.epoch, order.borrower_partition};
    if (loan_ == wanted && state_ == State::open) return ports_.answer(order, {});
    if (loan_ == wanted && state_ == State::opening) return at_it_.push_back(pending);
    if (wanted.epoch.value <= record_.epoch)
        return ports_.answer(order, fail(Errc::stale_epoch,
                                         "epoch {} is not newer than {}, which device {} has seen",
                                         wanted.epoch, record_.epoch, device_));
    if (loan_)
        return ports_.answer(order, fail(Errc::busy,
                                         "device {} is lent to partition {} by loan {}; cut that one first",
                                         device_, loan_->borrower_partition, loan_->loan));
    if (state_ == State::absent || under_way()) return wait(pending);
    if (state_ != State::ready)
        return ports_.answer(order, fail(Errc::failed_precondition,
                                         "device {} is {}: reset it before it is lent{}{}", device_,
                                         name(state_), problem_.empty() ? "" : "; ", problem_));
    if (!record_.clean)
        return ports_.answer(order,
                             fail(Errc::failed_precondition,
                                  "device {} has not been reset and sanitized since its last use", device_));
    if (auto stored = store({wanted.epoch.value, false, {}}); !stored)
        return ports_.answer(order, std::move(stored));
    loan_ = wanted;
    announced_ = false;
    lease_step_ = {};
    arm_lease(order.step, now_us);
    const uint64_t operation = start(State::opening);
    at_it_.push_back(pending);
    ports_.open(operation, wanted);
}

// Closes in any case: that it could not be written down is a reason to say so, not to leave a way open.
void LenderFence::cut(const Pending& pending) {
    auto stored = raise(pending.order.step.epoch);
    if (!stored) record_ = {pending.order.step.epoch.value, false, {}};
    if (!loan_ && state_ != State::closing) return ports_.answer(pending.order, std::move(stored));
    announced_ = true;
    if (state_ != State::closing) {
        for (const Pending& step : end_operation())
            ports_.answer(step.order, fail(Errc::cancelled, "the loan was cut while it was being prepared"));
        close();
    }
    cut_stored_ = cut_stored_ && stored.has_value();
    at_it_.push_back(pending);
}

void LenderFence::reset(const Pending& pending) {
    const pool::Step& step = pending.order.step;
    if (state_ == State::open || state_ == State::opening)
        return ports_.answer(pending.order, fail(Errc::failed_precondition,
                                                 "device {} is lent by loan {}: cut it before it is reset",
                                                 device_, loan_->loan));
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
    const bool is_lent = state_ == State::open || state_ == State::opening;
    if (state_ == State::absent || (under_way() && !is_lent)) return wait(pending);
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
    const bool is_open = state_ == State::open || state_ == State::opening;
    if (!is_open || loan_->loan != step.loan || loan_->epoch != step.epoch)
        return ports_.answer(pending.order,
                             fail(Errc::failed_precondition, "device {} is not lent by loan {} at epoch {}",
                                  device_, step.loan, step.epoch));
    arm_lease(step, now_us);
    ports_.answer(pending.order, {});
}

// Of two that overtake each other the later one counts, and one that comes twice does not count again.
void LenderFence::arm_lease(const pool::Step& step, int64_t now_us) {
    if (step.id <= lease_step_) return;
    lease_step_ = step.id;
    constexpr int64_t longest_ms = INT64_MAX / 4000;
    lease_until_us_ = step.lease_ms > 0 ? now_us + std::min(step.lease_ms, longest_ms) * 1000 : 0;
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
    lease_until_us_ = 0;
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
    default:
        return;
    }
    if (state_ == State::broken) retry_us_ = now_us + reset_retry_us;
    if (!under_way()) retry_waiting(now_us);
}

void LenderFence::opened(const std::vector<Pending>& steps, const Result<>& result) {
    if (result) {
        state_ = State::open;
    } else {
        loan_.reset();
        lease_until_us_ = 0;
        state_ = State::unverified;
        if (result.error().code() == Errc::timeout) failed(result.error().message());
    }
    for (const Pending& step : steps)
        ports_.answer(step.order, result);
}

void LenderFence::closed(const std::vector<Pending>& steps, const Result<>& result) {
    loan_.reset();
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
    record_ = record;
    return {};
}

// Whoever raises the epoch ends a loan of the device, or begins to make it new: either way it is not clean.
Result<> LenderFence::raise(pool::Epoch epoch) {
    if (epoch.value == record_.epoch && !record_.clean) return {};
    return store({epoch.value, false, {}});
}

// ---- time

void LenderFence::lose(const std::string& reason) {
    if (!loan_ || std::exchange(announced_, true)) return;
    ports_.lost(*loan_, reason);
}

void LenderFence::tick(int64_t now_us) {
    if (lease_until_us_ != 0 && lease_until_us_ <= now_us && loan_) {
        const std::string reason =
            fmt::format("the lease of loan {} has run out, and nobody has extended it", loan_->loan);
        const auto steps = end_operation();
        close();
        for (const Pending& step : steps)
            ports_.answer(step.order, fail(Errc::cancelled, "{}", reason));
        lose(reason);
    }
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
    for (const int64_t time_us : {lease_until_us_, retry_us_})
        if (time_us != 0) next = next ? std::min(*next, time_us) : time_us;
    for (const Pending& step : waiting_)
        next = next ? std::min(*next, step.deadline_us) : step.deadline_us;
    return next;
}

} // namespace lanepool::agent
