// SPDX-License-Identifier: Apache-2.0
#include "host/workload.h"

#include <bit>
#include <cmath>

namespace lanepool::bench {

void Recorder::add(io::Duration latency) {
    ++count_;
    sum_ += latency;
    const auto ns = static_cast<uint64_t>(std::max<int64_t>(16, latency.count()));
    const auto power = static_cast<unsigned>(std::bit_width(ns) - 1);
    ++histogram_[power * 16 + (ns >> (power - 4) & 15)];
}

Measured Recorder::result() const {
    Measured measured;
    if (count_ == 0) return measured;
    const double seconds = std::chrono::duration<double>(last_ - start_).count();
    measured.iops = static_cast<double>(count_) / seconds;
    measured.mean_us = std::chrono::duration<double, std::micro>(sum_).count() / static_cast<double>(count_);
    uint64_t seen = 0;
    for (size_t i = 0; i < histogram_.size(); ++i) {
        seen += histogram_[i];
        if (seen * 100 < count_ * 99) continue;
        measured.p99_us = std::ldexp(16.0 + static_cast<double>(i % 16), static_cast<int>(i / 16) - 4) / 1000;
        break;
    }
    return measured;
}

} // namespace lanepool::bench
