// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"

#include <memory>

namespace lanepool {

// Owns one file descriptor and closes it.
class UniqueFd {
  public:
    UniqueFd() = default;
    explicit UniqueFd(int fd) : fd_(fd) {}
    UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
    UniqueFd& operator=(UniqueFd&& other) noexcept;
    UniqueFd(const UniqueFd&) = delete;
    UniqueFd& operator=(const UniqueFd&) = delete;
    ~UniqueFd() { reset(); }

    int get() const { return fd_; }
    explicit operator bool() const { return fd_ >= 0; }
    int release() { return std::exchange(fd_, -1); }
    void reset();

    // Another descriptor of the same open file, close-on-exec.
    Result<UniqueFd> duplicate() const;

  private:
    int fd_ = -1;
};

// A descriptor with several owners: memory that stands behind several windows, for example.
using SharedFd = std::shared_ptr<const UniqueFd>;
inline SharedFd share(UniqueFd fd) { return std::make_shared<const UniqueFd>(std::move(fd)); }

// Anonymous memory with a descriptor, SIZE_BYTES of zeroes, sealed against shrinking and growing, so that who
// maps it cannot be killed (SIGBUS) by who owns it. NAME shows in /proc/PID/maps.
Result<UniqueFd> create_memory(const char* name, uint64_t size_bytes);

// A non-blocking eventfd with count zero.
Result<UniqueFd> create_eventfd();
// Adds one to it. A full or closed eventfd is the receiver's loss: nothing to report.
void signal(const UniqueFd& eventfd);
// Takes the whole count; 0 if it was not signalled.
uint64_t drain(const UniqueFd& eventfd);

} // namespace lanepool
