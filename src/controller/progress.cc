// SPDX-License-Identifier: Apache-2.0
#include "controller/progress.h"

#include "api/convert.h"

namespace lanepool::controller {

using pool::DeviceState;
using pool::LoanState;
using pool::StepKind;

namespace {

std::string words(const pool::Step& step, const pool::Loan* loan) {
    switch (step.kind) {
    case StepKind::prepare:
        return fmt::format("host {} prepares the device", step.host);
    case StepKind::attach:
        return fmt::format("guest {} of host {} takes the device", loan ? loan->guest : "", step.host);
    case StepKind::detach:
        return fmt::format("guest {} of host {} lets go of the device", loan ? loan->guest : "", step.host);
    case StepKind::cut:
        return fmt::format("host {} cuts the device off", step.host);
    case StepKind::reset:
        return fmt::format("host {} resets the device", step.host);
    case StepKind::sanitize:
        return fmt::format("host {} sanitizes the device", step.host);
    }
    return {};
}

// What the device waits for.
std::string step_of(const pool::Pool& pool, const pool::Device& device) {
    const pool::Step* step = pool.awaited(device.fdid);
    if (!step) return std::string(name(device.state));
    std::string text = words(*step, pool.ledger().loans.find(step->loan));
    const pool::Host* host = pool.ledger().hosts.find(step->host);
    if (!host || !host->up) text += " (its agent is not connected)";
    return text;
}

std::string because(const std::string& reason) { return reason.empty() ? "" : ": " + reason; }

void judge_active(Standing& standing, const pool::Device& device, const pool::Loan& loan) {
    switch (loan.state) {
    case LoanState::active:
    case LoanState::quiescing: // it was, between two looks
        standing.progress.set_done(true);
        return;
    case LoanState::returned:
        standing.error = Error(Errc::cancelled, fmt::format("loan {} of device {} is over{}", loan.id,
                                                            describe(device), because(loan.reason)));
        return;
    case LoanState::failed:
        standing.error = Error(Errc::failed_precondition,
                               fmt::format("loan {} of device {} failed{}; the device is {}", loan.id,
                                           describe(device), because(loan.reason), name(device.state)));
        return;
    default:
        return;
    }
}

void judge_over(Standing& standing, const pool::Device& device, const pool::Loan& loan) {
    if (!has_ended(loan.state)) return;
    if (loan.state == LoanState::returned || device.state == DeviceState::available || device.loan) {
        standing.progress.set_done(true);
        return;
    }
    standing.error = Error(Errc::failed_precondition,
                           fmt::format("loan {} is over, but device {} is {}{}", loan.id, describe(device),
                                       name(device.state), because(device.reason)));
}

void judge_available(Standing& standing, const pool::Pool& pool, const pool::Device& device) {
    if (pool.awaited(device.fdid) && !device.loan) return; // under way
    if (device.state == DeviceState::quarantined || device.state == DeviceState::offline)
        standing.error =
            Error(Errc::failed_precondition, fmt::format("device {} is {}{}", describe(device),
                                                         name(device.state), because(device.reason)));
    else
        standing.progress.set_done(true);
}

} // namespace

v1::Device device_message(const pool::Pool& pool, const pool::Device& device) {
    const pool::Loan* loan = pool.ledger().loans.find(device.loan);
    return api::to_message(device, loan ? loan->borrower : std::string());
}

v1::Loan loan_message(const pool::Pool& pool, const pool::Loan& loan) {
    return api::to_message(loan, *pool.ledger().devices.find(loan.fdid));
}

Standing standing(const pool::Pool& pool, const Goal& goal) {
    Standing standing;
    const pool::Device& device = *pool.ledger().devices.find(goal.fdid);
    *standing.progress.mutable_device() = device_message(pool, device);
    standing.progress.set_step(step_of(pool, device));
    if (goal.kind == Goal::Kind::device_available) {
        judge_available(standing, pool, device);
        return standing;
    }
    const pool::Loan* loan = pool.ledger().loans.find(goal.loan);
    if (!loan) {
        standing.error = Error(
            Errc::not_found, fmt::format("loan {} is over, and its record is not kept any more", goal.loan));
        return standing;
    }
    *standing.progress.mutable_loan() = loan_message(pool, *loan);
    if (has_ended(loan->state) || loan->state == LoanState::active)
        standing.progress.set_step(std::string(name(loan->state)));
    if (goal.kind == Goal::Kind::loan_active)
        judge_active(standing, device, *loan);
    else
        judge_over(standing, device, *loan);
    return standing;
}

} // namespace lanepool::controller
