// SPDX-License-Identifier: Apache-2.0
//
// The controllers of an embedded cluster, and the members of etcd where they are several: what is decided
// once for a folder, and with which words each process is started.
#pragma once

#include "base/result.h"
#include "dev/starter.h"

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
    std::vector<Ports> etcd;   // of each member, on 127.0.0.1; none with one controller
    std::vector<uint16_t> tcp; // of each controller, on 127.0.0.1, with certificates; none: they serve this
                               // machine's processes only

    // What FOLDER has; one controller where it has nothing.
    static Result<ControlPlane> read(const std::filesystem::path& folder);
    // The same, or a new one of WANTED controllers, remembered from now on; OVER_TCP: other machines reach
    // them, too. Errors: failed_precondition (the cluster has another number of them), not_found (etcd is not
    // installed).
    static Result<ControlPlane> open(const std::filesystem::path& folder, unsigned wanted,
                                     bool over_tcp = false);

    // Starts those that do not run: members of etcd first.
    Result<> start(Starter& starter, const std::string& program) const;
    // Errors: unavailable, with the log of a member of etcd that has ended.
    Result<> check_members(const Starter& starter) const;

    struct Daemon {
        std::string name;
        std::vector<std::string> argv;
    };
    std::vector<Daemon> members(const std::filesystem::path& folder) const;
    // Makes the certificates of those that are reached over TCP when first asked for. Errors: those of
    // certificate_files().
    Result<std::vector<Daemon>> daemons(const std::filesystem::path& folder,
                                        const std::string& program) const;
    std::string endpoints(const std::filesystem::path& folder) const;
    // Over TCP, for a machine that calls this one ADDRESS.
    std::string tcp_endpoints(const std::string& address) const;

  private:
    Result<std::vector<std::string>> certificate_words(const std::filesystem::path& folder) const;
    std::string name(unsigned number) const;
};

} // namespace lanepool::dev
