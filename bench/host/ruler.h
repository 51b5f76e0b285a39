// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"

namespace lanepool::bench {

// Puts the calling thread on CORE. Errors: what the kernel says, for example that there is no such core.
Result<> pin_to(int core);

// How long two threads on these cores take to hand a cache line to and fro, in nanoseconds, median of many:
// what everything that polls is measured in. On a shared machine it drifts with where the hypervisor puts the
// cores. Leaves the caller on CORE.
Result<double> read_ruler(int core, int other_core);

} // namespace lanepool::bench
