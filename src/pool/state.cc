// SPDX-License-Identifier: Apache-2.0
#include "pool/state.h"

#include <algorithm>
#include <initializer_list>

namespace lanepool::pool {

namespace {
template <class State>
bool one_of(State state, std::initializer_list<State> states) {
    return std::find(states.begin(), states.end(), state) != states.end();
}

template <class State, size_t count>
std::optional<State> find_name(const std::array<State, count>& states, std::string_view wanted) {
    for (const State state : states)
        if (name(state) == wanted) return state;
    return std::nullopt;
}
} // namespace

std::string_view name(LoanState state) {
    switch (state) {
    case LoanState::queued:
        return "queued";
    case LoanState::reserved:
        return "reserved";
    case LoanState::preparing:
        return "preparing";
    case LoanState::attaching:
        return "attaching";
    case LoanState::active:
        return "active";
    case LoanState::quiescing:
        return "quiescing";
    case LoanState::detaching:
        return "detaching";
    case LoanState::resetting:
        return "resetting";
    case LoanState::returned:
        return "returned";
    case LoanState::failed:
        return "failed";
    }
    return "unknown";
}

std::string_view name(DeviceState state) {
    switch (state) {
    case DeviceState::local:
        return "local";
    case DeviceState::available:
        return "available";
    case DeviceState::reserved:
        return "reserved";
    case DeviceState::lent:
        return "lent";
    case DeviceState::recovering:
        return "recovering";
    case DeviceState::quarantined:
        return "quarantined";
    case DeviceState::offline:
        return "offline";
    }
    return "unknown";
}

std::string_view name(StepKind kind) {
    switch (kind) {
    case StepKind::prepare:
        return "prepare";
    case StepKind::attach:
        return "attach";
    case StepKind::detach:
        return "detach";
    case StepKind::cut:
        return "cut";
    case StepKind::reset:
        return "reset";
    case StepKind::sanitize:
        return "sanitize";
    case StepKind::extend:
        return "extend";
    case StepKind::expel:
        return "expel";
    case StepKind::take:
        return "take";
    case StepKind::give_back:
        return "give-back";
    case StepKind::set_functions:
        return "set-functions";
    }
    return "unknown";
}

std::optional<LoanState> loan_state(std::string_view name) { return find_name(loan_states, name); }
std::optional<DeviceState> device_state(std::string_view name) { return find_name(device_states, name); }
std::optional<StepKind> step_kind(std::string_view name) { return find_name(step_kinds, name); }

bool may_follow(LoanState from, LoanState to) {
    using enum LoanState;
    if (to == failed) return !has_ended(from);
    switch (from) {
    case queued:
        return one_of(to, {reserved, returned}); // returned: it was withdrawn
    case reserved:
        return to == preparing;
    case preparing:
        return one_of(to, {attaching, detaching});
    case attaching:
        return one_of(to, {active, detaching});
    case active:
        return one_of(to, {quiescing, detaching});
    case quiescing:
        // Active again: it was asked for, and is in use.
        return one_of(to, {active, detaching});
    case detaching:
        // Straight to its end where the lender is gone, and the device stays offline, to be cut when it is
        // back; and where others share the device and go on.
        return one_of(to, {resetting, returned});
    case resetting:
        return to == returned;
    case returned:
    case failed:
        return false;
    }
    return false;
}

bool may_follow(DeviceState from, DeviceState to) {
    using enum DeviceState;
    switch (from) {
    case local:
        return one_of(to, {available, recovering, quarantined, offline});
    case available:
        return one_of(to, {local, reserved, recovering, quarantined, offline});
    case reserved:
        return one_of(to, {lent, recovering, offline});
    case lent:
        return one_of(to, {recovering, offline});
    case recovering:
        // The only way back into the pool after a loan.
        return one_of(to, {local, available, quarantined, offline});
    case quarantined:
        return to == recovering;
    case offline:
        return one_of(to, {local, available, reserved, lent, recovering, quarantined});
    }
    return false;
}

} // namespace lanepool::pool
