// SPDX-License-Identifier: Apache-2.0
#include "nvme/model/interrupt_pacer.h"

#include <algorithm>

namespace lanepool::nvme::model {

namespace {

using std::chrono::microseconds;

// How long the host may take to look after an interrupt before it gets another one.
constexpr io::Duration lost_after = std::chrono::milliseconds(2);
constexpr io::Duration probe_wait = microseconds(20);
// A burst pauses when nothing has come for twice the usual interval.
constexpr io::Duration shortest_pause = microseconds(2);
constexpr io::Duration longest_pause = microseconds(20);
constexpr uint32_t most_entries = 32;
constexpr io::Duration longest_wait = microseconds(100);
constexpr uint32_t lonely_limit = 4;

} // namespace

void InterruptPacer::set_coalescing(uint32_t threshold, io::Duration time) {
    threshold_ = time > io::Duration(0) ? threshold : 0;
    time_ = time;
}

void InterruptPacer::note_time() {
    const io::TimePoint now = clock_->now();
    if (unsignalled_ == 1)
        first_ = now;
    else if (now - last_ < longest_wait)
        interval_ = (3 * interval_ + (now - last_)) / 4;
    last_ = now;
}

void InterruptPacer::host_looked(uint32_t left) {
    expecting_ = false;
    unsignalled_ = left;
}

void InterruptPacer::start_over(uint32_t left) { host_looked(left); }

bool InterruptPacer::time_has_come(io::TimePoint now) const {
    if (expecting_ && now - expecting_since_ < lost_after) return false;
    if (threshold_ != 0) return unsignalled_ > threshold_ || clock_->now() - first_ >= time_;
    if (mode_ == Mode::immediate || unsignalled_ >= most_entries) return true;
    const io::TimePoint exactly = clock_->now();
    const io::Duration pause =
        mode_ == Mode::probing ? probe_wait : std::clamp(2 * interval_, shortest_pause, longest_pause);
    return exactly - last_ >= pause || exactly - first_ >= longest_wait;
}

void InterruptPacer::signalled(io::TimePoint now) {
    const bool several = unsignalled_ > 1;
    unsignalled_ = 0;
    expecting_ = true;
    expecting_since_ = now;
    if (!may_pace_) return;
    switch (mode_) {
    case Mode::immediate:
        if (--until_probe_ == 0) mode_ = Mode::probing;
        return;
    case Mode::probing:
        mode_ = several ? Mode::paced : Mode::immediate;
        break;
    case Mode::paced:
        lonely_ = several ? 0 : lonely_ + 1;
        if (lonely_ < lonely_limit) return;
        mode_ = Mode::immediate;
        break;
    }
    lonely_ = 0;
    until_probe_ = signals_between_probes;
}

} // namespace lanepool::nvme::model
