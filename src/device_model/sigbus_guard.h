// SPDX-License-Identifier: Apache-2.0
//
// Memory of a client's may vanish under us: who owns a descriptor that is not sealed can truncate it, and the
// next touch raises SIGBUS. A guarded range is replaced by zeroes of our own when that happens, so that the
// access ends, reads nothing of anybody's, and reaches nobody. The kernel's own accesses on our behalf
// (preadv into such memory) fail with EFAULT and need no guard.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lanepool::device_model {

class SigbusGuard {
  public:
    // The most ranges that can be guarded at a time in one process.
    static constexpr size_t max_ranges = 32768;

    SigbusGuard() = default;
    // Guards the pages from DATA on for SIZE_BYTES until destroyed. When no slot is free the guard is empty
    // (see operator bool): do not touch the memory then. Thread-safe.
    SigbusGuard(std::byte* data, size_t size_bytes);
    SigbusGuard(SigbusGuard&& other) noexcept;
    SigbusGuard& operator=(SigbusGuard&& other) noexcept;
    ~SigbusGuard();

    explicit operator bool() const { return slot_ != none; }

    // How many ranges this process has lost that way so far.
    static uint64_t lost_ranges();

  private:
    static constexpr size_t none = SIZE_MAX;
    size_t slot_ = none;
};

} // namespace lanepool::device_model
