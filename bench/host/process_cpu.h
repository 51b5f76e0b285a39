// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"

#include <span>
#include <sys/types.h>

namespace lanepool::bench {

// The processor time that a process and its threads have used so far, in seconds (proc(5), stat).
Result<double> cpu_seconds(pid_t process);
// Lets all threads of a process run on CORES only.
Result<> pin_process(pid_t process, std::span<const int> cores);

} // namespace lanepool::bench
