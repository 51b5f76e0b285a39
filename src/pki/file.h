// SPDX-License-Identifier: Apache-2.0
//
// Reads the files in which keys, certificates and lists lie.
#pragma once

#include "base/result.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace lanepool::pki {

inline constexpr size_t most_pem_bytes = 64 * 1024;
inline constexpr size_t most_crl_bytes = 64 * 1024 * 1024;

enum class Links { follow, refuse };

// All of PATH, a regular file of at most MOST_BYTES. Errors name PATH: protocol (too large, no file), and
// what the system says.
Result<std::string> read_file(const std::filesystem::path& path, size_t most_bytes,
                              Links links = Links::follow);
// The same for a key: permission_denied where anybody but its owner may read or write it, since he may have
// read it already. AND_THEN ends that error's sentence: what to do besides `chmod 600`.
Result<std::string> read_private_file(const std::filesystem::path& path, std::string_view and_then,
                                      Links links = Links::follow);

// What tells a file from the one that was there before; of none, FileStamp().
struct FileStamp {
    uint64_t inode = 0;
    int64_t bytes = 0;
    int64_t changed_ns = 0;

    bool operator==(const FileStamp&) const = default;
};
FileStamp stamp_of(const std::filesystem::path& path);

} // namespace lanepool::pki
