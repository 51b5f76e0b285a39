// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "host/workload.h"
#include "report/rows.h"

namespace lanepool::bench {

struct SharingBenchOptions {
    uint64_t fdid = 0;
    std::vector<std::string> agents;                      // of hosts with equal weights
    std::vector<std::pair<std::string, double>> weighted; // agents, and the weights that their hosts have
    io::Duration duration = std::chrono::seconds(1);      // of each measurement
    int rounds = 3;
    int core = 0;
};

// Random reads of 4 KiB from one drive by 1 host, 2, 4 and so on up to all: together, and how even (Jain's
// index); then by hosts of different weights: how far the shares are from these. All hosts' clients run in
// this one thread.
Result<std::vector<Row>> bench_sharing(const SharingBenchOptions& options);

} // namespace lanepool::bench
