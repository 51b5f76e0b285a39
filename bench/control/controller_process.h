// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"

#include <filesystem>
#include <string>
#include <sys/types.h>

namespace lanepool::bench {

// A controller of its own, with its database in a folder of its own.
class ControllerProcess {
  public:
    ControllerProcess(std::filesystem::path program, std::filesystem::path folder)
        : program_(std::move(program)), folder_(std::move(folder)) {}
    ~ControllerProcess();

    // Until it answers, for at most some seconds; returns how long that took.
    Result<double> start_s();
    // SIGKILL.
    void kill();
    std::string endpoint() const { return "unix:" + (folder_ / "controller.sock").string(); }
    Result<double> memory_mib() const;
    Result<double> cpu_s() const;
    // Of its database.
    double disk_mib() const;

  private:
    const std::filesystem::path program_;
    const std::filesystem::path folder_;
    pid_t pid_ = 0;
};

} // namespace lanepool::bench
