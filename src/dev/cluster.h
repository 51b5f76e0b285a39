// SPDX-License-Identifier: Apache-2.0
//
// The embedded mode: controller, fabric, drives, agents and guests of a small pool, all on this machine, with
// no hardware. For development, tests, training and the demo.
#pragma once

#include "base/result.h"
#include "dev/process_table.h"
#include "dev/starter.h"
#include "dev/whole_plan.h"
#include "io/clock.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace lanepool::dev {

struct ClusterOptions {
    std::filesystem::path folder;
    std::filesystem::path program; // the lanepool binary
    unsigned controllers = 0; // 1: its records in SQLite; 3 or 5: in etcd; 0: as many as there are, else one
    std::string lender = "store";
    unsigned drives = 2;
    uint64_t drive_bytes = uint64_t{4} << 30;
    bool map_registers = false; // of the drives: all of BAR0 can be mapped, for programs with SISCI
    unsigned dma_engines = 0;   // of the lender, too
    std::vector<std::string> borrowers = {"a", "b", "c"};
    bool guests = true; // one on each borrowing host; without, only applications borrow
    unsigned guest_memory_mib = 256;
    // Hosts that are whole Linux machines, by WHOLE; of the options above only folder, program and
    // controllers count then. A folder whose cluster has whole hosts keeps them without being told.
    bool whole_hosts = false;
    WholeWishes whole;
};

// $LANEPOOL_DEV_DIR, else a folder of the user's own under the system's temporary folder.
std::filesystem::path default_folder();

// Where things are in a cluster's folder.
// The endpoints of its controllers, separated by commas; of a cluster that is not there: of the one it would
// have.
std::string controller_endpoints(const std::filesystem::path& folder);
std::filesystem::path exec_socket(const std::filesystem::path& folder, const std::string& host);

struct ProcessStatus {
    // "controller" (or "controller0", "etcd0", ...), "fabric", "nvme0", "agent-a", "guest-a", "host-a"
    std::string name;
    pid_t pid = 0;
    bool running = false;
};

// Starts whatever of the cluster does not run, and waits until all of it answers. Also brings back what has
// died. On an error the log of the process at fault is named, and what has been started stays.
Result<> up(const ClusterOptions& options, const Report& report);
// Stops everything; with REMOVE the folder goes too (only one that holds a cluster).
Result<> down(const std::filesystem::path& folder, bool remove);
Result<std::vector<ProcessStatus>> status(const std::filesystem::path& folder);

// Takes the link of HOST's port down or up ("down", "up"), or its adapter out of the switch and back in
// ("unplug", "plug"). Errors: not_found for a host that the cluster does not have,
// not_supported for the adapter of a whole host.
Result<> change_port(const std::filesystem::path& folder, const std::string& host, const std::string& change);

// What each of the cluster's daemons answers to COMMAND on its administration socket; the agent in a whole
// host is asked in there.
struct Answer {
    std::string name;
    Result<nlohmann::json> json;
};
Result<std::vector<Answer>> ask_daemons(const std::filesystem::path& folder, const std::string& command);

} // namespace lanepool::dev
