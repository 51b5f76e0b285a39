// SPDX-License-Identifier: Apache-2.0
//
// `lanepool model nvme`: a virtual NVMe drive in a process of its own, served over vfio-user.
#pragma once

#include "base/result.h"

#include <cstdint>
#include <filesystem>
#include <string>

namespace lanepool::nvme::model {

struct NvmeModelOptions {
    std::filesystem::path socket; // where the function is shown
    std::filesystem::path file;   // the drive's blocks; created sparse when absent. FILE.state lies beside it
    uint64_t size_bytes = 0;      // a multiple of 4096; 0: as large as the file is
    std::string serial;           // 1 to 20 printable characters; empty: follows from the file's path
    std::filesystem::path admin_socket; // stats, status, hang; empty: none
    bool msix = true;           // false for a client that cannot take MSI-X away again (QEMU up to 11.1)
    bool map_registers = false; // see ControllerOptions
    bool threads = false;       // threads instead of io_uring, as where there is none
};

// Serves until SIGTERM or SIGINT; then 0. Blocks these signals in the calling thread. Errors: what keeps it
// from starting.
Result<int> run_nvme_model(const NvmeModelOptions& options);

} // namespace lanepool::nvme::model
