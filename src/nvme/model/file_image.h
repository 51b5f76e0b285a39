// SPDX-License-Identifier: Apache-2.0
//
// The file that holds the namespace's blocks.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <sys/uio.h>

namespace lanepool::nvme::model {

class FileImage {
  public:
    // Opens PATH, or creates it sparse with SIZE_BYTES, a multiple of 4096. SIZE_BYTES 0 takes what is there.
    // The file stays locked (flock) as long as this lives. Errors: busy when another process has it,
    // failed_precondition when it has another size, invalid_argument, and what the file system reports.
    static Result<FileImage> open(const std::filesystem::path& path, uint64_t size_bytes);

    int fd() const { return fd_.get(); }
    uint64_t size_bytes() const { return size_bytes_; }
    // Bytes that the file system holds for it.
    uint64_t allocated_bytes() const;

    // Reads or writes at once if that takes no longer than copying: the number of bytes (which may be fewer
    // than asked for), or a negative errno; nothing when it would have to wait or the file system cannot
    // tell.
    std::optional<int64_t> read_now(std::span<const iovec> pieces, uint64_t offset_bytes);
    std::optional<int64_t> write_now(std::span<const iovec> pieces, uint64_t offset_bytes);
    void never_at_once() { can_read_now_ = can_write_now_ = false; }
    // Whether everything that was written is as durable as it gets without a sync: a file in memory.
    bool in_memory() const { return in_memory_; }

    // Whether no data is left in the file, asked of the file system or read back.
    Result<bool> is_empty() const;

  private:
    FileImage(UniqueFd fd, uint64_t size_bytes, bool in_memory)
        : fd_(std::move(fd)), size_bytes_(size_bytes), in_memory_(in_memory) {}

    UniqueFd fd_;
    uint64_t size_bytes_;
    bool in_memory_; // tmpfs: nothing to wait for, and no support for RWF_NOWAIT
    bool can_read_now_ = true;
    bool can_write_now_ = true;
};

} // namespace lanepool::nvme::model
