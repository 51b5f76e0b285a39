// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "host/workload.h"
#include "report/rows.h"

namespace lanepool::bench {

struct DriveBenchOptions {
    uint64_t size_bytes = 0;
    io::Duration duration = std::chrono::seconds(1); // of each measurement
    int rounds = 5;
    int core = 0;
    int server_core = 1;
};

// Random reads of 4 KiB: a drive of another host beside one of the own host, and both beside what is
// possible.
Result<std::vector<Row>> bench_drive(System& remote, System& local, System& in_process,
                                     const DriveBenchOptions& options);

} // namespace lanepool::bench
