// SPDX-License-Identifier: Apache-2.0
//
// The system calls by which the module is reached, so that a test can be the kernel.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "bridge/function.h"

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <sys/types.h>

namespace lanepool::bridge {

// Thread-safe. A failure is the negative errno; calls go on after a signal.
class Module {
  public:
    virtual ~Module() = default;
    // For reading and writing, non-blocking; a descriptor.
    virtual int open(const std::filesystem::path& node) = 0;
    virtual int ioctl(int fd, unsigned long request, void* argument) = 0;
    virtual ssize_t read(int fd, std::span<std::byte> data) = 0;
};

// This machine's.
Module& system_module();

// The functions of MODULE, which must outlive the bridge and its functions.
std::unique_ptr<Bridge> kernel_bridge(Module& module, std::filesystem::path node);

} // namespace lanepool::bridge
