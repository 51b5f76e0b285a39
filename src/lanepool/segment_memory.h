// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"

#include <cstddef>
#include <cstdint>
#include <span>

namespace lanepool::client {

// The memory of a local segment: a sealed memfd that this process has mapped, somewhere or where its user had
// his own memory before.
class SegmentMemory {
  public:
    SegmentMemory() = default;
    SegmentMemory(SegmentMemory&& other) noexcept;
    SegmentMemory& operator=(SegmentMemory&& other) noexcept;
    // New memory is unmapped; a user's becomes his process's own again, with the content that it has then:
    // who had a descriptor of it does not reach it any more.
    ~SegmentMemory() { release(); }

    // SIZE_BYTES in whole pages. Errors: no_space.
    static Result<SegmentMemory> create(uint64_t size_bytes);
    // MEMORY, in whole pages, moves into a memfd and keeps its address. Errors: invalid_argument (not in
    // whole pages), out_of_range (not all of it is readable and writable), already_exists (a part of it is
    // another segment's memory), no_space.
    static Result<SegmentMemory> around(std::span<std::byte> memory);

    std::span<std::byte> bytes() const { return bytes_; }
    int fd() const { return fd_.get(); }
    explicit operator bool() const { return !bytes_.empty(); }

  private:
    void release();

    UniqueFd fd_;
    std::span<std::byte> bytes_;
    bool is_users_ = false;
};

} // namespace lanepool::client
