// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"
#include "fabric/options.h"

#include <cstdint>
#include <filesystem>

namespace lanepool::fabric {

struct FabricOptions {
    std::filesystem::path dir; // for the sockets; made when it is missing
    unsigned ports = 16;       // 1 to 48
    // Ports in pairs, for hosts whose driver knows one peer only (paired_policies).
    bool pairs = false;
    unsigned lut_entries = SwitchOptions{}.lut_entries;
    // SwitchOptions: smaller where a machine's firmware has to place the BARs.
    uint64_t bar2_bytes = SwitchOptions{}.bar2_bytes;
    uint64_t bar4_bytes = SwitchOptions{}.bar4_bytes;
    io::Duration peer_read_timeout = SwitchOptions{}.peer_read_timeout;
};

// The process `lanepool fabric`: serves the ports at DIR/portN.sock and administration at DIR/admin.sock
// until SIGTERM or SIGINT, then returns 0. Blocks these signals in the calling thread, which must be the only
// one. Errors: invalid_argument, already_exists (somebody serves there), and what making the sockets reports.
Result<int> run_fabric(const FabricOptions& options);

} // namespace lanepool::fabric
