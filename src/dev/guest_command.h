// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"

#include <filesystem>
#include <string>
#include <vector>

namespace lanepool::dev {

// How many functions a guest can hold at a time: each is hot-added behind a root port of its own, rp0 and up.
inline constexpr unsigned guest_slots = 4;

struct GuestOptions {
    std::string name;
    std::filesystem::path folder; // for its sockets and logs
    unsigned memory_mib = 256;
};

// The cache folder, with QEMU and the guest image in it. Errors: not_found, saying what to run.
Result<std::filesystem::path> guest_cache();

// The command line of one guest (docs/guest.md says why each part is there). Its sockets in FOLDER:
// exec.sock, qmp.sock for whoever runs the guest, agent.qmp.sock for the host's lanepool agent.
Result<std::vector<std::string>> guest_command(const GuestOptions& options);

} // namespace lanepool::dev
