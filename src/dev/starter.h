// SPDX-License-Identifier: Apache-2.0
//
// Starts the processes of an embedded cluster, and waits until they answer.
#pragma once

#include "base/result.h"
#include "dev/process_table.h"

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace lanepool::dev {

using Report = std::function<void(const std::string& step)>;

// Where a daemon of the cluster in FOLDER has its administration socket.
std::filesystem::path admin_socket(const std::filesystem::path& folder, const std::string& name);

class Starter {
  public:
    // TABLE and REPORT outlive this.
    Starter(std::filesystem::path folder, ProcessTable& table, const Report& report)
        : folder_(std::move(folder)), table_(table), report_(report) {}

    const std::filesystem::path& folder() const { return folder_; }
    std::filesystem::path path(const std::string& name) const { return folder_ / name; }
    ProcessTable& table() { return table_; }
    bool running(const std::string& name) const { return table_.running(name); }
    void report(const std::string& step) const { report_(step); }

    // Its output goes to NAME.log.
    Result<> start(const std::string& name, const std::vector<std::string>& argv);
    // One of lanepool's own, with an administration socket, unless it runs.
    Result<> daemon(const std::string& name, std::vector<std::string> argv);
    // Each of those answers. Errors: timeout, those of died().
    Result<> wait_for_daemons() const;

    // That NAME has ended, with the end of its log.
    tl::unexpected<Error> died(const std::string& name) const;

  private:
    Result<> wait_for_daemon(const std::string& name) const;

    const std::filesystem::path folder_;
    ProcessTable& table_;
    const Report& report_;
    std::vector<std::string> daemons_;
};

} // namespace lanepool::dev
