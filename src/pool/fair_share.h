// SPDX-License-Identifier: Apache-2.0
//
// How much a tenant has had lately: device-seconds, of which half is forgotten every day. Integers only, so
// that every controller comes to the same order.
#pragma once

#include "pool/records.h"

#include <cstdint>
#include <map>

namespace lanepool::pool {

inline constexpr int64_t usage_half_life_us = 24LL * 3600 * 1'000'000;

// What is left of USED_S (0 or more) after ELAPSED_US; all of it where the clock went back.
int64_t decayed(int64_t used_s, int64_t elapsed_us);

// What a device that was held from BEGIN_US to END_US (Unix time) counts at END_US, in device-seconds.
int64_t held_s(int64_t begin_us, int64_t end_us);

// USAGE with a loan in it that has ended: to be stored when a loan ends that was active. BEGIN_US is its
// active_us.
Usage charged(const Usage& usage, int64_t begin_us, int64_t end_us);

// The same as the sum of held_s(begin, now) of many loans that run, without looking at each. Loans come and
// go in any order; what is added and removed again leaves nothing behind.
class RunningLoans {
  public:
    void add(int64_t begin_us) { change(begin_us, true); }
    void remove(int64_t begin_us) { change(begin_us, false); }
    int64_t held_s(int64_t now_us) const;
    bool empty() const { return days_.empty(); }

  private:
    struct Day {
        int64_t loans = 0;
        int64_t weight = 0; // sum of 2^(part of the day that had passed at the begin), 2^-30 each
    };
    void change(int64_t begin_us, bool comes);
    std::map<int64_t, Day> days_; // by days since 1970
};

} // namespace lanepool::pool
