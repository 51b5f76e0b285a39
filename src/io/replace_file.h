// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"

#include <filesystem>
#include <string_view>

namespace lanepool::io {

// Gives PATH the content TEXT, so that a crash at any time leaves the old file or the new one, whole, and
// after success the new one (man 2 fsync: the folder has to be flushed, too). Writes "PATH.new" first; mode
// 0600. Errors: io, with the system's reason; the old file is then as it was.
Result<> replace_file(const std::filesystem::path& path, std::string_view text);

} // namespace lanepool::io
