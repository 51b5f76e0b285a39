// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "api/tls_files.h"
#include "base/result.h"
#include "pool/input.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace lanepool::controller {

struct ControllerOptions {
    // Endpoints, separated by commas: "unix:/path", "/path", "HOST:PORT" or "[V6]:PORT". Addresses take TLS.
    std::string listen;
    std::string group; // whose members may connect to the sockets; empty: only the owner and root
    std::optional<api::TlsFiles> tls;
    std::filesystem::path tls_crl; // empty: no certificate is revoked
    std::filesystem::path state;   // the folder of the database; made if missing; not used with etcd
    std::filesystem::path admin;   // the administration socket; empty: none

    // One of several controllers, that have their records in etcd.
    std::vector<std::string> etcd; // HOST:PORT of each member; empty: this one is alone, and has a database
    std::string etcd_prefix = "/lanepool/";
    std::string name;                             // of this controller; no two have the same
    std::string advertise;                        // where others are told to reach it; empty: LISTEN
    std::chrono::milliseconds election_ttl{1000}; // store/election.h

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
