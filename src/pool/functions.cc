// SPDX-License-Identifier: Apache-2.0
//
// SR-IOV functions: each is a device like any other, and its parent stays with its own host for as long as
// there are any. How many there are is changed by one step of the parent, and known from the next Hello.
#include "pool/pool.h"

#include <algorithm>

namespace lanepool::pool {

namespace {
constexpr size_t most_named = 4; // functions, in a refusal
} // namespace

Result<Fdid> Pool::set_functions(const SetFunctionsRequest& request, Now now) {
    begin(now, request.caller);
    auto fdid = try_set_functions(request, who(request.caller));
    if (!fdid) audit_refusal("set-functions", request.device, fdid.error());
    return fdid;
}

Result<Fdid> Pool::try_set_functions(const SetFunctionsRequest& request, const Who& who) {
    TRY(policy_->check_role(who, Role::operator_, "change the functions of a device"));
    const Device device = *ledger_.devices.find(TRY(find_device(request.device)));
    if (!device.parent.empty())
        return fail(Errc::not_supported, "device {} is a function itself; ask for those of {}/{}",
                    describe(device), device.host, device.parent);
    if (device.most_functions == 0)
        return fail(Errc::not_supported, "device {} has no SR-IOV", describe(device));
    if (request.functions > device.most_functions)
        return fail(Errc::out_of_range, "{} functions of device {}: it can have at most {}",
                    request.functions, describe(device), device.most_functions);
    TRY(check_lender(device, "changed"));
    if (const Step* step = awaited(device.fdid); step && step->kind == StepKind::set_functions) {
        if (step->functions == request.functions) return device.fdid;
        return fail(Errc::busy, "the functions of device {} are being changed to {}; try again in a moment",
                    describe(device), step->functions);
    }
    if (device.state != DeviceState::local || !device.with_host)
        return fail(device.loan || device.state == DeviceState::recovering ? Errc::busy
                                                                           : Errc::failed_precondition,
                    "device {} is {}: functions are made and removed while its own host has it; `lanepool "
                    "local {}` leaves it there",
                    describe(device), name(device.state), device.fdid);
    if (device.functions == request.functions) return device.fdid;
    TRY(check_functions_unused(device));
    TRY(check_room_for_functions(device, request.functions));
    AuditEntry entry;
    entry.subject = fmt::format("device:{}", device.fdid);
    entry.action = "set-functions";
    entry.from = fmt::format("{}", device.functions);
    entry.to = fmt::format("{}", request.functions);
    entry.fdid = device.fdid;
    entry.epoch = device.epoch;
    audit(std::move(entry));
    for (const Fdid fdid : functions_of(device))
        ledger_.change(fdid, [](Device& record) { record.parent_changing = true; });
    raise_epoch(device.fdid);
    Step step = new_step(StepKind::set_functions, device.host, device.fdid, {},
                         ledger_.devices.find(device.fdid)->epoch);
    step.deadline_ms = options_.functions_ms;
    step.functions = request.functions;
    ledger_.steps.put(step.id, step);
    send(step.id);
    return device.fdid;
}

// All of them go, whatever the new number is.
Result<> Pool::check_functions_unused(const Device& device) const {
    const auto functions = functions_of(device);
    for (const Fdid fdid : functions) {
        const Device& function = *ledger_.devices.find(fdid);
        if (const Loan* loan = ledger_.loans.find(function.loan))
            return tl::unexpected<Error>(held(function, *loan, nullptr));
        if (in_recovery(fdid))
            return fail(Errc::busy, "device {} is on its way ({}); try again in a moment", describe(function),
                        function.reason);
    }
    for (const auto& [id, loan] : ledger_.loans.all()) {
        if (loan.state != LoanState::queued) continue;
        const auto wanted = loan.fdid ? Result<Fdid>(loan.fdid) : find_device(loan.wanted.device);
        if (wanted && std::find(functions.begin(), functions.end(), *wanted) != functions.end())
            return fail(Errc::busy, "loan {} of host {} is queued for device {}; withdraw it first", id,
                        loan.borrower, describe(*ledger_.devices.find(*wanted)));
    }
    return {};
}

Result<> Pool::check_room_for_functions(const Device& device, uint32_t functions) const {
    size_t others = 0;
    for (const Fdid fdid : ledger_.devices_of(device.host)) {
        const Device& one = *ledger_.devices.find(fdid);
        if (one.parent != device.name && !is_forgettable(one)) ++others;
    }
    if (others + functions <= options_.devices_per_host) return {};
    return fail(
        Errc::no_space,
        "{} functions of device {}: host {} has {} other devices, and no more than {} in all are allowed",
        functions, describe(device), device.host, others, options_.devices_per_host);
}

// Whether it can be taken or lent as a whole.
Result<> Pool::check_no_functions(const Device& device) const {
    std::vector<std::string> names;
    size_t there = 0;
    for (const Fdid fdid : functions_of(device)) {
        const Device& function = *ledger_.devices.find(fdid);
        if (function.gone) continue;
        if (++there <= most_named) names.push_back(function.name);
    }
    if (device.functions == 0 && there == 0) return {};
    return fail(Errc::busy,
                "device {} has {} SR-IOV functions ({}{}), and stays with its host for them; `lanepool "
                "functions {} 0` removes them",
                describe(device), std::max<size_t>(device.functions, there), fmt::join(names, ", "),
                there > most_named ? ", ..." : "", device.fdid);
}

// Whether nobody is about to remove it.
Result<> Pool::check_parent_settled(const Device& device) const {
    if (!device.parent_changing) return {};
    return fail(Errc::busy, "device {}: how many functions {}/{} has is being changed; try again in a moment",
                describe(device), device.host, device.parent);
}

std::vector<Fdid> Pool::functions_of(const Device& device) const {
    std::vector<Fdid> functions = ledger_.devices_of(device.host);
    std::erase_if(functions, [&](Fdid fdid) { return ledger_.devices.find(fdid)->parent != device.name; });
    return functions;
}

// ---- what the agent says

// It has done so: that counts when a Hello has shown it, which may have come before or comes now.
void Pool::await_functions(const Step& step) {
    if (ledger_.devices.find(step.fdid)->functions == step.functions) return end_functions(step.fdid);
    Step shown = step;
    shown.deadline_steady_us = now_.steady_us + int64_t{options_.margin_ms} * 1000;
    ledger_.steps.put(shown.id, shown);
}

// A Hello has shown another number of them: those that are there are new, also where they are called as
// others were.
void Pool::see_functions(Fdid fdid) {
    const Device device = *ledger_.devices.find(fdid);
    for (const Fdid one : functions_of(device))
        if (ledger_.devices.find(one)->state == DeviceState::available)
            recover(one, "it was made anew", false);
    const Step* step = awaited(fdid);
    if (!step || step->kind != StepKind::set_functions || step->functions != device.functions) return;
    ledger_.steps.erase(step->id);
    end_functions(fdid);
}

// The step is over, whatever came of it.
void Pool::end_functions(Fdid fdid) {
    for (const Fdid one : functions_of(*ledger_.devices.find(fdid)))
        ledger_.change(one, [](Device& record) { record.parent_changing = false; });
    wants_decision();
}

// ---- those that are gone

// Known by name, so that it is the same device when it is made again, until its place is needed.
bool Pool::is_forgettable(const Device& device) const {
    return !device.parent.empty() && device.state == DeviceState::offline && device.gone && !device.loan &&
           !device.successor && ledger_.steps_for(device.fdid).empty();
}

void Pool::forget(Fdid fdid) {
    const Device device = *ledger_.devices.find(fdid);
    AuditEntry entry;
    entry.subject = fmt::format("device:{}", fdid);
    entry.action = "forget";
    entry.from = name(device.state);
    entry.reason = fmt::format("{} is gone, and its place is needed", device.full_name());
    entry.fdid = fdid;
    entry.epoch = device.epoch;
    audit(std::move(entry));
    ledger_.devices.erase(fdid);
    fault_notes_.erase(fdid);
}

} // namespace lanepool::pool
