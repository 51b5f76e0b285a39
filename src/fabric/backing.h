// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/mapping.h"
#include "base/result.h"
#include "base/unique_fd.h"

#include <cstdint>
#include <memory>
#include <span>
#include <sys/types.h>
#include <tuple>

namespace lanepool::fabric {

// Says whether two descriptors are the same open kind of the same file.
struct FileIdentity {
    dev_t device = 0;
    ino_t inode = 0;
    int access_mode = 0; // O_RDONLY, O_RDWR
    auto operator<=>(const FileIdentity&) const = default;
};
// Only regular files (a memfd is one) have an identity: all anonymous inodes share one number.
Result<FileIdentity> file_identity(const UniqueFd& fd);

// A file that a client's memory lies in, and how the switch itself reaches it: by a mapping where the file
// cannot shrink, which would kill the switch at the next access; by read and write calls otherwise.
class Backing {
  public:
    explicit Backing(SharedFd fd);

    const SharedFd& fd() const { return fd_; }
    // Errors: io, out_of_range (the file is shorter).
    Result<> read(uint64_t offset_bytes, std::span<std::byte> data);
    Result<> write(uint64_t offset_bytes, std::span<const std::byte> data);

  private:
    std::byte* mapped(uint64_t offset_bytes, size_t size_bytes);

    SharedFd fd_;
    bool cannot_shrink_;
    Mapping mapping_; // the whole file; made at the first access
};

} // namespace lanepool::fabric
