// SPDX-License-Identifier: Apache-2.0
#include "cli/pursuit.h"

#include "cli/table.h"
#include "pool/input.h"

#include <thread>

namespace lanepool::cli {

namespace {
constexpr std::chrono::milliseconds look_interval{100};

std::string because(const std::string& reason) { return reason.empty() ? "" : ": " + reason; }

Result<v1::ShowReply> look_at(const Context& context, const std::string& id) {
    v1::ShowRequest request;
    request.set_id(id);
    return ask<v1::ShowReply>(context, Nature::looks, [&](auto& pool, auto* grpc_context, auto* out) {
        return pool.Show(grpc_context, request, out);
    });
}

// Brings the loans of PROGRESS up to date; whether all of them are where they were to go.
Result<bool> look_at_loans(const Context& context, Goal goal, v1::Progress& progress) {
    bool all = true;
    for (auto& loan : *progress.mutable_loans()) {
        loan = TRY(look_at(context, fmt::format("loan:{}", loan.id()))).loan();
        const bool reached = TRY(has_reached(goal, loan));
        if (all) progress.set_step(loan.state());
        all = all && reached;
    }
    if (!all || progress.loans_size() != 1 || progress.loans(0).fdid() == 0) return all;
    const auto& loan = progress.loans(0);
    auto& device = *progress.mutable_device();
    device = TRY(look_at(context, fdid_text(loan.fdid()))).device();
    if (loan.state() == "failed" && device.state() != "available" && device.loan_id() == 0)
        return fail(Errc::failed_precondition, "loan {} is over, but device {} is {}{}", loan.id(),
                    device.name(), device.state(), because(device.reason()));
    return true;
}

Result<bool> look_at_device(const Context& context, Goal goal, v1::Progress& progress) {
    *progress.mutable_device() = TRY(look_at(context, fdid_text(progress.device().fdid()))).device();
    progress.set_step(progress.device().state());
    return has_reached(progress.device(), goal);
}
} // namespace

Result<bool> has_reached(Goal goal, const v1::Loan& loan) {
    const std::string& state = loan.state();
    const bool ended = state == "returned" || state == "failed";
    // It was on its way back, and is in use.
    if (goal == Goal::loan_over && state == "active")
        return fail(pool::code_of(loan.reason()),
                    "loan {} of device {} goes on{}; stop using it there, or `lanepool reclaim loan:{}`",
                    loan.id(), loan.device(), because(loan.reason()), loan.id());
    if (goal == Goal::loan_over) return ended;
    if (ended)
        return fail(state == "returned"                          ? Errc::cancelled
                    : pool::code_of(loan.reason()) == Errc::busy ? Errc::busy
                                                                 : Errc::failed_precondition,
                    "loan {} of device {} {}{}", loan.id(), loan.device(),
                    state == "returned" ? "is over" : "failed", because(loan.reason()));
    return state == "active" || state == "quiescing"; // it was, between two looks
}

Result<bool> has_reached(const v1::Device& device, Goal goal) {
    const std::string& state = device.state();
    // One whose host is away becomes local, or has been made functions of, when it is back.
    const bool lost = state == "quarantined" || (state == "offline" && goal != Goal::device_local) ||
                      (state == "local" && goal == Goal::device_available);
    if (lost)
        return fail(pool::code_of(device.reason()), "device {} is {}{}", device.name(), state,
                    because(device.reason()));
    return state != "recovering";
}

Result<v1::Progress> pursue(const Context& context, Goal goal, v1::Progress last,
                            const std::function<void(const std::string&)>& show) {
    while (true) {
        const bool reached = TRY(last.loans_size() == 0 ? look_at_device(context, goal, last)
                                                        : look_at_loans(context, goal, last));
        if (reached) break;
        show(last.step());
        std::this_thread::sleep_for(look_interval);
    }
    last.set_done(true);
    return last;
}

} // namespace lanepool::cli
