// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "report/rows.h"
#include "smartio/link.h"
#include "smartio/peer.h"

namespace lanepool::bench {

struct MemoryBenchOptions {
    int rounds = 5;
    int core = 0;
    int peer_core = 1;
};

// Segments and interrupts of two hosts beside the bare memory and eventfds of two processes: bandwidth of
// memcpy, round trips polled and blocking. BARE is link 0 of PEER's, SEGMENT link 1.
Result<std::vector<Row>> bench_memory(Link& bare, Link& segment, Peer& peer,
                                      const MemoryBenchOptions& options);

} // namespace lanepool::bench
