// SPDX-License-Identifier: Apache-2.0
//
// PCI Express links: whether they run as they could.
#pragma once

#include "inventory/machine.h"

namespace lanepool::inventory {

// What the link of FUNCTION could be with the port above it: the lesser of both at best. Absent: not known.
std::optional<Link> possible_link(const Machine& machine, const Function& function);
// It runs slower or narrower than it could.
bool is_degraded(const Machine& machine, const Function& function);
// "16.0 GT/s x4"; "down"; "-" without a link.
std::string link_text(const std::optional<Link>& link);

} // namespace lanepool::inventory
