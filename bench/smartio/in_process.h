// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "host/workload.h"

namespace lanepool::bench {

// What is possible: queues of the shape of NVMe's in memory that two threads of one process share, and a
// pread for each command behind them, on SERVER_CORE. No registers, no PRPs, no identity: only the way to and
// fro.
Result<std::unique_ptr<System>> make_in_process(const std::string& file, int server_core);

} // namespace lanepool::bench
