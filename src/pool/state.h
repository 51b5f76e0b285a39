// SPDX-License-Identifier: Apache-2.0
//
// The states of loans and devices, their stable names, and which one may follow which. docs/loans.md draws
// both tables.
#pragma once

#include <array>
#include <optional>
#include <string_view>

namespace lanepool::pool {

enum class LoanState {
    queued,    // waits for a device
    reserved,  // the device is kept for it
    preparing, // the lender opens the device to the borrower
    attaching, // the borrower shows it to its guest
    active,
    quiescing, // the guest is asked to let go
    detaching, // the lender closes every way to the device
    resetting, // reset, then sanitize
    returned,  // over, as it should be
    failed,    // over, with a reason
};

enum class DeviceState {
    local,     // of its host alone, not in the pool
    available, // clean, and nobody has it
    reserved,
    lent,
    recovering,  // being cut off, reset and sanitized
    quarantined, // not to be lent until somebody has it reset; the reason says why
    offline,     // it, or the agent of its host, does not answer
};

enum class StepKind {
    prepare,
    attach,
    detach,
    cut,
    reset,
    sanitize,
    extend,        // the lender: the loan's end has moved; nothing waits for the answer
    expel,         // the lender: closes the ways of one of several shared loans, and leaves the others theirs
    take,          // the lender: takes the device from its own host; who uses it there is named, and keeps it
    give_back,     // the lender: gives the device back to its own host's driver
    set_functions, // the lender: makes or removes the SR-IOV functions of a device that its own host has
};

inline constexpr std::array loan_states{LoanState::queued,    LoanState::reserved,  LoanState::preparing,
                                        LoanState::attaching, LoanState::active,    LoanState::quiescing,
                                        LoanState::detaching, LoanState::resetting, LoanState::returned,
                                        LoanState::failed};
inline constexpr std::array device_states{
    DeviceState::local,      DeviceState::available,   DeviceState::reserved, DeviceState::lent,
    DeviceState::recovering, DeviceState::quarantined, DeviceState::offline};
inline constexpr std::array step_kinds{StepKind::prepare,   StepKind::attach,       StepKind::detach,
                                       StepKind::cut,       StepKind::reset,        StepKind::sanitize,
                                       StepKind::extend,    StepKind::expel,        StepKind::take,
                                       StepKind::give_back, StepKind::set_functions};

std::string_view name(LoanState state);
std::string_view name(DeviceState state);
std::string_view name(StepKind kind);

// The state of that name, if there is one.
std::optional<LoanState> loan_state(std::string_view name);
std::optional<DeviceState> device_state(std::string_view name);
std::optional<StepKind> step_kind(std::string_view name);

// Whether TO may follow FROM. Nothing follows the states that end a loan, and no state follows itself.
bool may_follow(LoanState from, LoanState to);
bool may_follow(DeviceState from, DeviceState to);

inline bool has_ended(LoanState state) { return state == LoanState::returned || state == LoanState::failed; }

} // namespace lanepool::pool
