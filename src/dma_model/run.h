// SPDX-License-Identifier: Apache-2.0
//
// `lanepool model dma`: a virtual DMA engine in a process of its own, served over vfio-user.
#pragma once

#include "base/result.h"

#include <filesystem>

namespace lanepool::dma_model {

struct DmaModelOptions {
    std::filesystem::path socket;       // where the function is shown; its serial number follows from it
    std::filesystem::path admin_socket; // stats, status, hang; empty: none
};

// Serves until SIGTERM or SIGINT; then 0. Blocks these signals in the calling thread. Errors: what keeps it
// from starting.
Result<int> run_dma_model(const DmaModelOptions& options);

} // namespace lanepool::dma_model
