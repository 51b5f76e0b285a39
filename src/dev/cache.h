// SPDX-License-Identifier: Apache-2.0
//
// What script/bootstrap has brought: QEMU, kernels and images.
#pragma once

#include "base/result.h"

#include <filesystem>
#include <string>
#include <vector>

namespace lanepool::dev {

// $LANEPOOL_CACHE, else $XDG_CACHE_HOME/lanepool, else ~/.cache/lanepool, as in script/lib/cache.sh.
std::filesystem::path cache_folder();

// The same, once each of PARTS is there. Errors: not_found, naming the first that is not, and REMEDY, the
// command that brings it.
Result<std::filesystem::path> cache_with(const std::vector<std::string>& parts, const std::string& remedy);

} // namespace lanepool::dev
