// SPDX-License-Identifier: Apache-2.0
#include "device_model/poller.h"

#include <algorithm>
#include <sys/prctl.h>

namespace lanepool::device_model {

namespace {

// The clock is read once in so many rounds.
constexpr uint32_t rounds_per_look = 64;
// How often sockets are looked at while spinning: one system call each.
constexpr io::Duration loop_interval = std::chrono::microseconds(100);
constexpr io::Duration deadline_interval = std::chrono::milliseconds(5);
constexpr io::Duration quiet_interval = std::chrono::seconds(1);

inline void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

} // namespace

void Poller::run() {
    // Naps of some microseconds end in time (the default rounds them up by 50 us).
    ::prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL);
    while (!loop_.stopping()) {
        if (device_.needs_polling()) {
            spin();
        } else {
            ++stats_.sleeps;
            loop_.run_once(device_.waits() ? deadline_interval : quiet_interval);
            device_.tick();
        }
    }
}

// Until there is nothing to watch, or the loop is stopped.
void Poller::spin() {
    const io::Clock& clock = loop_.clock();
    io::TimePoint last_busy = clock.now();
    io::TimePoint last_loop = last_busy;
    bool busy = false;
    for (uint32_t round = 1; device_.needs_polling(); ++round) {
        if (device_.poll())
            busy = true;
        else
            relax();
        if (round % rounds_per_look != 0) continue;
        io::TimePoint now = clock.now();
        if (now - last_loop >= loop_interval) {
            busy |= loop_.run_once(io::Duration(0));
            if (loop_.stopping()) return;
            device_.tick();
            last_loop = now;
        }
        if (std::exchange(busy, false)) last_busy = now;
        if (now - last_busy <= spin_time) continue;
        busy = nap(last_busy);
        if (loop_.stopping()) return;
        last_loop = clock.now();
    }
}

// Nap after nap until there is work (then true), nothing to watch any more, or the loop is stopped.
bool Poller::nap(io::TimePoint last_busy) {
    while (device_.needs_polling()) {
        ++stats_.naps;
        const io::Duration idle = loop_.clock().now() - last_busy;
        const bool message = loop_.run_once(std::min(idle / nap_share, max_nap));
        if (loop_.stopping()) return false;
        device_.tick();
        if (device_.poll() || message) {
            ++stats_.wake_ups;
            return true;
        }
    }
    return false;
}

} // namespace lanepool::device_model
