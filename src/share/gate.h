// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "io/clock.h"
#include "share/pacer.h"

#include <algorithm>
#include <cstdint>

namespace lanepool::sharing {

// A client's side of its allowance: what it may submit by now. What an allowance adds to the one before is
// spread over the interval between the two, so that commands do not come in one burst each interval, behind
// which everybody else's wait. Pure.
class Gate {
  public:
    static constexpr io::Duration longest_interval = std::chrono::milliseconds(10);

    // A new allowance, seen at NOW.
    void open(uint64_t allowance, io::TimePoint now) {
        from_ = allowance == no_limit ? no_limit : std::min(allowed(now), allowance);
        // There was no limit: nothing to spread.
        if (to_ == no_limit) from_ = allowance;
        to_ = allowance;
        // The next one will come as this one came, more or less.
        interval_ += (std::min(now - since_, longest_interval) - interval_) / 4;
        since_ = now;
    }
    bool limited() const { return to_ != no_limit; }
    // How far the units submitted may go.
    uint64_t allowed(io::TimePoint now) const {
        if (from_ >= to_) return to_;
        const auto passed = std::clamp<io::Duration>(now - since_, io::Duration(0), interval_);
        if (passed >= interval_) return to_;
        const double part = static_cast<double>(passed.count()) / static_cast<double>(interval_.count());
        return from_ + static_cast<uint64_t>(static_cast<double>(to_ - from_) * part);
    }

  private:
    uint64_t from_ = no_limit;
    uint64_t to_ = no_limit;
    io::TimePoint since_{};
    io::Duration interval_ = std::chrono::milliseconds(1);
};

} // namespace lanepool::sharing
