// SPDX-License-Identifier: Apache-2.0
#include "io/clock.h"

namespace lanepool::io {

namespace {
class SystemClock final : public Clock {
  public:
    TimePoint now() const override { return std::chrono::steady_clock::now(); }
    int64_t unix_time_us() const override {
        return std::chrono::duration_cast<std::chrono::microseconds>(
                   std::chrono::system_clock::now().time_since_epoch())
            .count();
    }
};
} // namespace

const Clock& system_clock() {
    static const SystemClock clock;
    return clock;
}

} // namespace lanepool::io
