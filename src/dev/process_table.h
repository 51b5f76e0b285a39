// SPDX-License-Identifier: Apache-2.0
//
// The processes of an embedded cluster: started detached, remembered in a file, found again by later
// commands.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "io/clock.h"

#include <filesystem>
#include <map>
#include <string>
#include <sys/types.h>
#include <vector>

namespace lanepool::dev {

struct Process {
    std::string name;
    pid_t pid = 0;
    uint64_t start_time = 0; // field 22 of /proc/PID/stat: with the pid, names one process for ever
    std::vector<std::string> argv;
};

// True while exactly this process runs: not a later one that was given the same pid, and not a zombie.
bool is_running(const Process& process);

// One cluster's processes. Holds the folder's lock for its life, so that two commands never act at once.
class ProcessTable {
  public:
    // Opens the table in FOLDER (made if missing), waiting for another command's lock at most TIMEOUT.
    static Result<ProcessTable> open(const std::filesystem::path& folder, io::Duration timeout);
    // Reads the table without the lock: a snapshot for people.
    static Result<std::vector<Process>> read(const std::filesystem::path& folder);

    const std::map<std::string, Process>& processes() const { return processes_; }
    // NAME is recorded and runs.
    bool running(const std::string& name) const;
    // Starts ARGV in a session of its own, with no input and its output appended to LOG. Errors:
    // already_exists when NAME runs.
    Result<> start(const std::string& name, const std::vector<std::string>& argv,
                   const std::filesystem::path& log);
    // SIGTERM to those of NAMES that run, SIGKILL to those that still do after GRACE; forgets them all.
    Result<> stop(const std::vector<std::string>& names, io::Duration grace);

  private:
    ProcessTable(std::filesystem::path file, UniqueFd lock)
        : file_(std::move(file)), lock_(std::move(lock)) {}
    Result<> save() const;

    std::filesystem::path file_;
    UniqueFd lock_;
    std::map<std::string, Process> processes_;
};

} // namespace lanepool::dev
