// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/mapping.h"
#include "base/result.h"
#include "base/unique_fd.h"

#include <cstddef>
#include <filesystem>
#include <span>
#include <sys/types.h>

namespace lanepool::vfio {

// The system calls that VFIO is made of, so that a test can be the kernel. Thread-safe.
class Kernel {
  public:
    virtual ~Kernel() = default;
    virtual Result<UniqueFd> open(const std::filesystem::path& path) = 0; // for reading and writing
    // As the system calls, but a failure is the negative errno. They go on after a signal.
    virtual int ioctl(int fd, unsigned long request, void* argument) = 0;
    virtual ssize_t pread(int fd, std::span<std::byte> data, uint64_t offset_bytes) = 0;
    virtual ssize_t pwrite(int fd, std::span<const std::byte> data, uint64_t offset_bytes) = 0;
    virtual Result<Mapping> map(const MemoryRef& memory, Access access) = 0;
};

// The machine's.
Kernel& system_kernel();

} // namespace lanepool::vfio
