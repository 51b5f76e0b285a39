// SPDX-License-Identifier: Apache-2.0
#include "controller/progress.h"

#include "api/convert.h"

namespace lanepool::controller {

using pool::DeviceState;
using pool::LoanState;
using pool::StepKind;

namespace {

std::string taker(const pool::Loan* loan) {
    if (loan && is_to_own_kernel(*loan)) return "the kernel";
    return "guest " + (loan ? loan->guest : std::string());
}

std::string words(const pool::Step& step, const pool::Loan* loan) {
    const bool to_applications = loan && loan->access_model == pool::AccessModel::smartio;
    switch (step.kind) {
    case StepKind::prepare:
        return fmt::format("host {} prepares the device", step.host);
    case StepKind::attach:
        if (to_applications)
            return fmt::format("host {} makes the device ready for its applications", step.host);
        return fmt::format("{} of host {} takes the device", taker(loan), step.host);
    case StepKind::detach:
        if (to_applications) return fmt::format("applications of host {} let go of the device", step.host);
        return fmt::format("{} of host {} lets go of the device", taker(loan), step.host);
    case StepKind::cut:
        return fmt::format("host {} cuts the device off", step.host);
    case StepKind::reset:
        return fmt::format("host {} resets the device", step.host);
    case StepKind::sanitize:
        return fmt::format("host {} sanitizes the device", step.host);
    case StepKind::extend:
        return fmt::format("host {} hears of the new due time", step.host);
    case StepKind::expel:
        return fmt::format("host {} closes its ways to the device", step.host);
    case StepKind::take:
        return fmt::format("host {} takes the device from its own use", step.host);
    case StepKind::give_back:
        return fmt::format("host {} gives the device back to its own use", step.host);
    case StepKind::set_functions:
        return step.functions == 0 ? fmt::format("host {} removes the functions", step.host)
                                   : fmt::format("host {} makes {} functions", step.host, step.functions);
    }
    return {};
}

std::string step_of(const pool::Pool& pool, const pool::Step* step, const pool::Device& device) {
    if (!step) return std::string(name(device.state));
    std::string text = words(*step, pool.ledger().loans.find(step->loan));
    const pool::Host* host = pool.ledger().hosts.find(step->host);
    if (!host || !host->up) text += " (its agent is not connected)";
    return text;
}

// What the device waits for.
std::string step_of(const pool::Pool& pool, const pool::Device& device) {
    return step_of(pool, pool.awaited(device.fdid), device);
}

std::string because(const std::string& reason) { return reason.empty() ? "" : ": " + reason; }

// How a loan stands, in words.
std::string step_of(const pool::Pool& pool, const pool::Loan& loan) {
    if (loan.state == LoanState::queued)
        return fmt::format("loan {} is queued{}", loan.id, because(loan.reason));
    const pool::Device* device = pool.ledger().devices.find(loan.fdid);
    if (has_ended(loan.state) || loan.state == LoanState::active || !device)
        return std::string(name(loan.state));
    return step_of(pool, pool.awaited_by(loan), *device);
}

std::string what_of(const pool::Pool& pool, const pool::Loan& loan) {
    const pool::Device* device = pool.ledger().devices.find(loan.fdid);
    return device ? describe(*device) : describe(loan.wanted);
}

// Whether it is what somebody waits for, or cannot become so any more.
Result<bool> is_active(const pool::Pool& pool, const pool::Loan& loan) {
    const pool::Device* device = pool.ledger().devices.find(loan.fdid);
    switch (loan.state) {
    case LoanState::active:
    case LoanState::quiescing: // it was, between two looks
        return true;
    case LoanState::returned:
        return fail(Errc::cancelled, "loan {} of device {} is over{}", loan.id, what_of(pool, loan),
                    because(loan.reason));
    case LoanState::failed:
        return fail(!loan.fdid                                 ? Errc::timeout
                    : pool::code_of(loan.reason) == Errc::busy ? Errc::busy
                                                               : Errc::failed_precondition,
                    "loan {} of device {} failed{}{}", loan.id, what_of(pool, loan), because(loan.reason),
                    device ? fmt::format("; the device is {}", name(device->state)) : "");
    default:
        return false;
    }
}

Result<bool> is_over(const pool::Pool& pool, const pool::Loan& loan) {
    // It was on its way back, and is in use.
    if (loan.state == LoanState::active)
        return fail(pool::code_of(loan.reason),
                    "loan {} of device {} goes on{}; stop using it there, or `lanepool reclaim loan:{}`",
                    loan.id, what_of(pool, loan), because(loan.reason), loan.id);
    if (!has_ended(loan.state)) return false;
    const pool::Device* device = pool.ledger().devices.find(loan.fdid);
    if (loan.state == LoanState::returned || !device || device->state == DeviceState::available ||
        device->loan)
        return true;
    return fail(Errc::failed_precondition, "loan {} is over, but device {} is {}{}", loan.id,
                describe(*device), name(device->state), because(device->reason));
}

Error is_now(const pool::Device& device) {
    return {pool::code_of(device.reason),
            fmt::format("device {} is {}{}", describe(device), name(device.state), because(device.reason))};
}

void judge_device(Standing& standing, const pool::Pool& pool, const Goal& goal, const pool::Device& device) {
    *standing.progress.mutable_device() = device_message(pool, device);
    standing.progress.set_step(step_of(pool, device));
    if (pool.awaited(device.fdid) && !device.loan) return; // under way
    const bool reached = goal.kind == Goal::Kind::functions_set
                             ? device.functions == goal.functions
                             : device.state != DeviceState::quarantined &&
                                   device.state != DeviceState::offline && !device.with_host;
    if (reached)
        standing.progress.set_done(true);
    else
        standing.error = is_now(device);
}

void judge_loans(Standing& standing, const pool::Pool& pool, const Goal& goal) {
    bool all = true;
    for (const pool::LoanId id : goal.loans) {
        const pool::Loan* loan = pool.ledger().loans.find(id);
        if (!loan) {
            standing.error = Error(Errc::not_found,
                                   fmt::format("loan {} is over, and its record is not kept any more", id));
            return;
        }
        *standing.progress.add_loans() = loan_message(pool, *loan);
        const auto reached =
            goal.kind == Goal::Kind::loans_active ? is_active(pool, *loan) : is_over(pool, *loan);
        if (!reached && !standing.error) standing.error = reached.error();
        // The first that is waited for is the one to be told of.
        if (all && (!reached || !*reached)) standing.progress.set_step(step_of(pool, *loan));
        all = all && reached && *reached;
    }
    if (goal.loans.size() == 1) {
        const pool::Device* device =
            pool.ledger().devices.find(pool.ledger().loans.find(goal.loans[0])->fdid);
        if (device) *standing.progress.mutable_device() = device_message(pool, *device);
    }
    if (!all) return;
    standing.progress.set_step(step_of(pool, *pool.ledger().loans.find(goal.loans[0])));
    standing.progress.set_done(true);
}

} // namespace

v1::Device device_message(const pool::Pool& pool, const pool::Device& device) {
    const pool::Loan* loan = pool.ledger().loans.find(device.loan);
    v1::Device message = api::to_message(device, loan ? loan->borrower : std::string());
    if (const auto loans = pool.ledger().loans_on(device.fdid); loans.size() > 1)
        for (const pool::LoanId id : loans)
            message.add_sharing_loan_ids(id.value);
    return message;
}

v1::Loan loan_message(const pool::Pool& pool, const pool::Loan& loan) {
    return api::to_message(loan, pool.ledger().devices.find(loan.fdid));
}

Standing standing(const pool::Pool& pool, const Goal& goal) {
    Standing standing;
    const pool::Device* device = pool.ledger().devices.find(goal.fdid);
    if (!goal.fdid)
        judge_loans(standing, pool, goal);
    else if (device)
        judge_device(standing, pool, goal, *device);
    else
        standing.error =
            Error(Errc::not_found,
                  fmt::format("device {} is gone, and its record is not kept any more", goal.fdid));
    return standing;
}

} // namespace lanepool::controller
