// SPDX-License-Identifier: Apache-2.0
//
// Time is handed in, so that tests and the simulator own it. Deadlines are points on a Clock that only goes
// forward; the time of day is for records that people read and never decides anything.
#pragma once

#include <chrono>
#include <cstdint>

namespace lanepool::io {

using Duration = std::chrono::nanoseconds;
// Since an arbitrary start; comparable only on one machine and one Clock.
using TimePoint = std::chrono::time_point<std::chrono::steady_clock, Duration>;

class Clock {
  public:
    virtual ~Clock() = default;
    virtual TimePoint now() const = 0;
    // Microseconds since 1970-01-01 UTC, for records.
    virtual int64_t unix_time_us() const = 0;
};

// The machine's clocks. One instance for the whole process, usable from any thread.
const Clock& system_clock();

} // namespace lanepool::io
