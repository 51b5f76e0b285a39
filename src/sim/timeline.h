// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "io/clock.h"

#include <cstdint>
#include <functional>
#include <vector>

namespace lanepool::sim {

// Simulated time: events in the order of their time, and those of one time in the order in which they were
// added. It is the clock of everything that is simulated.
class Timeline final : public io::Clock {
  public:
    io::TimePoint now() const override { return io::TimePoint(std::chrono::microseconds(now_us_)); }
    int64_t unix_time_us() const override { return now_us_ + unix_offset_us_; }
    int64_t now_us() const { return now_us_; }
    // The time of day is set; nothing that counts may depend on it.
    void set_unix_offset_us(int64_t offset_us) { unix_offset_us_ = offset_us; }
    int64_t unix_offset_us() const { return unix_offset_us_; }

    void at(int64_t time_us, std::function<void()> event);
    void after(int64_t delay_us, std::function<void()> event) { at(now_us_ + delay_us, std::move(event)); }
    // The next event; false when there is none at or before UNTIL_US.
    bool step(int64_t until_us);
    uint64_t events() const { return events_; }

  private:
    struct Event {
        int64_t time_us;
        uint64_t number;
        std::function<void()> call;
    };
    static bool later(const Event& a, const Event& b) {
        return a.time_us != b.time_us ? a.time_us > b.time_us : a.number > b.number;
    }

    int64_t now_us_ = 1'000'000;
    int64_t unix_offset_us_ = 1'700'000'000'000'000;
    uint64_t next_number_ = 0;
    uint64_t events_ = 0;
    std::vector<Event> heap_;
};

} // namespace lanepool::sim
