// SPDX-License-Identifier: Apache-2.0
//
// The controllers of an embedded cluster, and the members of etcd where they are several: what is decided
// once for a folder, and with which words each process is started.
#pragma once

#include "base/result.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace lanepool::dev {

// Remembered in the folder, so that everybody finds everybody after a restart.
struct ControlPlane {
    struct Ports {
        uint16_t client = 0, peer = 0;
    };
    unsigned controllers = 1;
    std::vector<Ports> etcd; // of each member, on 127.0.0.1; none with one controller

    // What FOLDER has; one controller where it has nothing.
    static Result<ControlPlane> read(const std::filesystem::path& folder);
    // The same, or a new one of WANTED controllers, remembered from now on. Errors: failed_precondition (the
    // cluster has another number of them), not_found (etcd is not installed).
    static Result<ControlPlane> open(const std::filesystem::path& folder, unsigned wanted);

    struct Daemon {
        std::string name;
        std::vector<std::string> argv;
    };
    // In the order in which they are started.
    std::vector<Daemon> members(const std::filesystem::path& folder) const;
    std::vector<Daemon> daemons(const std::filesystem::path& folder, const std::string& program) const;
    std::string endpoints(const std::filesystem::path& folder) const;

  private:
    std::string name(unsigned number) const;
};

} // namespace lanepool::dev
