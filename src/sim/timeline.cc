// SPDX-License-Identifier: Apache-2.0
#include "sim/timeline.h"

#include <algorithm>
#include <utility>

namespace lanepool::sim {

void Timeline::at(int64_t time_us, std::function<void()> event) {
    heap_.push_back({std::max(time_us, now_us_), next_number_++, std::move(event)});
    std::push_heap(heap_.begin(), heap_.end(), later);
}

bool Timeline::step(int64_t until_us) {
    if (heap_.empty() || heap_.front().time_us > until_us) {
        now_us_ = std::max(now_us_, until_us);
        return false;
    }
    std::pop_heap(heap_.begin(), heap_.end(), later);
    const Event event = std::move(heap_.back());
    heap_.pop_back();
    now_us_ = event.time_us;
    ++events_;
    event.call();
    return true;
}

} // namespace lanepool::sim
