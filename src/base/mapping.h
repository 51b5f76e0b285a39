// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"

#include <cstddef>
#include <cstdint>
#include <span>

namespace lanepool {

enum class Access { read_only, read_write };

// A piece of memory that has a descriptor: SIZE bytes at OFFSET of FD. What a window, a BAR or a DMA mapping
// is made of when its bytes can be reached directly.
struct MemoryRef {
    SharedFd fd;
    uint64_t offset_bytes = 0;
    uint64_t size_bytes = 0;
};

// Owns one mmap of shared memory and unmaps it.
class Mapping {
  public:
    Mapping() = default;
    Mapping(Mapping&& other) noexcept;
    Mapping& operator=(Mapping&& other) noexcept;
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;
    ~Mapping() { reset(); }

    // Maps SIZE_BYTES at OFFSET_BYTES of FD, which may be closed afterwards. The offset need not lie on a
    // page boundary. Errors: invalid_argument for a size of zero or a range that overflows, and what mmap
    // reports.
    static Result<Mapping> create(int fd, uint64_t offset_bytes, uint64_t size_bytes,
                                  Access access = Access::read_write);
    static Result<Mapping> create(const MemoryRef& memory, Access access = Access::read_write) {
        return create(memory.fd->get(), memory.offset_bytes, memory.size_bytes, access);
    }

    std::byte* data() const { return data_; }
    size_t size_bytes() const { return size_bytes_; }
    std::span<std::byte> bytes() const { return {data_, size_bytes_}; }
    explicit operator bool() const { return data_ != nullptr; }
    void reset();

  private:
    std::byte* data_ = nullptr; // what the caller asked for; the mmap itself starts at its page
    size_t size_bytes_ = 0;
    size_t page_offset_ = 0;
};

} // namespace lanepool
