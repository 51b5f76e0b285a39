// SPDX-License-Identifier: Apache-2.0
//
// `lanepool nvme share`: the manager of a shared drive as a process.
#pragma once

#include "base/result.h"

#include <filesystem>
#include <string>

namespace lanepool::sharing {

struct ShareOptions {
    std::string device;                 // fdid in hexadecimal, or HOST/DEVICE
    std::filesystem::path agent_socket; // of the host's agent; empty: as SessionOptions::socket
    std::filesystem::path clients_file; // empty: everybody may use all of the drive
    std::filesystem::path admin_socket; // status; empty: none
};

// Serves until SIGTERM or SIGINT; then 0. Blocks these signals in the calling thread. Errors: what keeps it
// from starting, and what ends the drive's sharing.
Result<int> run_share(const ShareOptions& options);

} // namespace lanepool::sharing
