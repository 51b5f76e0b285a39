// SPDX-License-Identifier: Apache-2.0
#include "pool/site.h"

#include <algorithm>

namespace lanepool::pool {

namespace {
constexpr int64_t second_us = 1'000'000;
constexpr int64_t day_s = 86'400;

int64_t floor_divided(int64_t value, int64_t by) {
    return value / by - (value % by != 0 && (value < 0) != (by < 0) ? 1 : 0);
}

// 0: Monday. Day 0 of Unix time was a Thursday.
int weekday(int64_t day) { return static_cast<int>(((day + 3) % 7 + 7) % 7); }
} // namespace

Interval next_interval(const Calendar& calendar, int64_t unix_us) {
    const int64_t local_s = floor_divided(unix_us, second_us) + calendar.utc_offset_s;
    const int64_t today = floor_divided(local_s, day_s);
    // An interval lasts a week at most, so the one that we are in began at most seven days ago, and the next
    // one begins at most seven days from now.
    for (int64_t day = today - 7; day <= today + 7; ++day) {
        if (!(calendar.days >> weekday(day) & 1)) continue;
        const int64_t begin_s = day * day_s + calendar.begin_s - calendar.utc_offset_s;
        const Interval interval{begin_s * second_us, (begin_s + calendar.length_s) * second_us};
        if (interval.end_us > unix_us) return interval;
    }
    return {}; // it has no days
}

} // namespace lanepool::pool
