// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"
#include "pool/input.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>

namespace lanepool::controller {

struct ControllerOptions {
    std::string listen;          // "unix:/path" or "/path"
    std::string group;           // whose members may connect; empty: only the owner and root
    std::filesystem::path state; // the folder of the database; made if missing
    std::filesystem::path admin; // the administration socket; empty: none

    pool::Options pool;
    uint64_t audit_kept = 1'000'000;
    // Agents send something at least every interval; one that is silent for the timeout is taken for dead.
    std::chrono::milliseconds heartbeat_interval{500};
    std::chrono::milliseconds heartbeat_timeout{3000};
    // Of commands and agents together; more are refused.
    size_t streams = 4096;
    size_t calls = 512; // that have one answer and have not had it yet
};

// Serves until SIGTERM or SIGINT; returns the exit status. Errors: what keeps it from starting.
Result<int> run_controller(const ControllerOptions& options);

} // namespace lanepool::controller
