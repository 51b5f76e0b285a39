// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"
#include "io/clock.h"
#include "pci/function.h"

#include <filesystem>
#include <memory>

namespace lanepool::vfio_user {

struct ClientOptions {
    // How long one request may take before the function counts as gone (the connection is closed: a late
    // answer could not be told from the next one's).
    io::Duration timeout = std::chrono::seconds(5);
    // Whether to offer our extension. Without it we are as any other client, for example QEMU.
    bool extension = true;
};

// pci::Function over a vfio-user socket, ours or anybody's. One thread of its own receives answers, another
// serves the function's DMA reads and writes to targets, so a slow target never holds up an answer.
// Thread-safe. Errors: not_found or unavailable when nobody serves PATH, protocol, not_supported (protocol
// version).
Result<std::unique_ptr<pci::Function>> connect(const std::filesystem::path& path, ClientOptions options = {});

} // namespace lanepool::vfio_user
