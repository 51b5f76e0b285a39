// SPDX-License-Identifier: Apache-2.0
//
// Whether a device can be lent, judged by what its machine shows and by the support matrix. Pure: nothing is
// tried on the device.
#pragma once

#include "inventory/machine.h"
#include "qualify/report.h"
#include "qualify/support_matrix.h"

namespace lanepool::qualify {

// Whether it is worth asking: no bridge, no NTB adapter, and of a kind that is lent.
bool is_candidate(const inventory::Function& function);

// FUNCTION is one of MACHINE's. What could not be read makes a check unknown, never failed.
Report judge(const inventory::Machine& machine, const inventory::Function& function,
             const SupportMatrix& matrix, int64_t time_us);

} // namespace lanepool::qualify
