// SPDX-License-Identifier: Apache-2.0
//
// Keeps a machine's files, so that it can be looked at elsewhere.
#pragma once

#include "base/result.h"
#include "inventory/files.h"

namespace lanepool::inventory {

struct Saved {
    size_t entries = 0;
    size_t bytes = 0;
};

// Writes what read_machine() reads of ROOTS to FOLDER, which is made, and must be empty where it exists: at
// most 64 MiB. Of command line, interrupts and lists of modules only what it looks at is kept. Errors:
// already_exists, no_space, io.
Result<Saved> save_machine(const Roots& roots, const std::filesystem::path& folder);

} // namespace lanepool::inventory
