// SPDX-License-Identifier: Apache-2.0
#include "host/workload.h"

#include <bit>
#include <cmath>

namespace lanepool::bench {

void Recorder::add(io::Duration latency) {
    ++count_;
    sum_ += latency;
    const auto ns = static_cast<uint64_t>(std::max<int64_t>(32, latency.count()));
    const auto power = static_cast<unsigned>(std::bit_width(ns) - 1);
    ++histogram_[power * 32 + (ns >> (power - 5) & 31)];
}

double Recorder::percentile_us(double part) const {
    const double wanted = part * static_cast<double>(count_);
    double seen = 0;
    for (size_t i = 0; i < histogram_.size(); ++i) {
        const auto here = static_cast<double>(histogram_[i]);
        if (here == 0 || seen + here < wanted) {
            seen += here;
            continue;
        }
        // As if they lay evenly within the step.
        const double inside = (wanted - seen) / here;
        return std::ldexp(32.0 + static_cast<double>(i % 32) + inside, static_cast<int>(i / 32) - 5) / 1000;
    }
    return 0;
}

Measured Recorder::result() const {
    Measured measured;
    if (count_ == 0) return measured;
    const double seconds = std::chrono::duration<double>(last_ - start_).count();
    measured.iops = static_cast<double>(count_) / seconds;
    measured.mean_us = std::chrono::duration<double, std::micro>(sum_).count() / static_cast<double>(count_);
    measured.p50_us = percentile_us(0.5);
    measured.p99_us = percentile_us(0.99);
    return measured;
}

} // namespace lanepool::bench
