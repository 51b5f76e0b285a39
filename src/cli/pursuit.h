// SPDX-License-Identifier: Apache-2.0
//
// Follows what a request was for by looking at the records, at whichever controller leads: for when the one
// that took the request is not there any more.
#pragma once

#include "cli/follow.h"

namespace lanepool::cli {

// How a loan or a device stands with respect to a goal: reached, not yet, or never.
Result<bool> has_reached(Goal goal, const v1::Loan& loan);
Result<bool> has_reached(const v1::Device& device, Goal goal = Goal::device_reset);

// From LAST, which names loans or a device, to the end; SHOW is told each step on the way. Errors: what keeps
// the goal from being reached, or that no controller leads for as long as the context's timeout.
Result<v1::Progress> pursue(const Context& context, Goal goal, v1::Progress last,
                            const std::function<void(const std::string&)>& show);

} // namespace lanepool::cli
