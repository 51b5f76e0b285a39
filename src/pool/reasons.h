// SPDX-License-Identifier: Apache-2.0
//
// What the scheduler tells people: why a group waits, or what it gets.
#pragma once

#include "pool/pass.h"

#include <string>
#include <vector>

namespace lanepool::pool {

// A line for each thing that stands in the way of a group, the most important first; at least one. It changes
// only when what it speaks of does.
std::vector<std::string> why_not(const Market& market, const Unit& unit, const Look& look);
// Which reservation stands in the way, and when.
std::string reservation_text(const Reservations::Verdict& verdict);
// A line for each wish of a group that is served.
std::vector<std::string> what_it_gets(Market& market, const Unit& unit, const Look& look);

} // namespace lanepool::pool
