// SPDX-License-Identifier: Apache-2.0
#include "nvme/model/poller.h"

#include <algorithm>
#include <sys/epoll.h>
#include <sys/prctl.h>

namespace lanepool::nvme::model {

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

Result<std::unique_ptr<Poller>> Poller::create(io::EventLoop& loop, Media& media, Controller& controller) {
    std::unique_ptr<Poller> poller(new Poller(loop, controller));
    poller->files_watch_ = TRY(loop.watch(media.files().event_fd(), EPOLLIN, [&media, &controller](uint32_t) {
        media.files().acknowledge(); // before looking: what comes in between signals again
        controller.poll();
    }));
    return poller;
}

void Poller::run() {
    // Naps of some microseconds end in time (the default rounds them up by 50 us).
    ::prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL);
    while (!loop_.stopping()) {
        if (controller_.needs_polling()) {
            serve_queues();
        } else {
            ++stats_.sleeps;
            loop_.run_once(controller_.waits() ? deadline_interval : quiet_interval);
            controller_.tick();
        }
    }
}

// Until there are no queues to watch, or the loop is stopped.
void Poller::serve_queues() {
    const io::Clock& clock = loop_.clock();
    io::TimePoint last_busy = clock.now();
    io::TimePoint last_loop = last_busy;
    bool busy = false;
    for (uint32_t round = 1; controller_.needs_polling(); ++round) {
        if (controller_.poll())
            busy = true;
        else
            relax();
        if (round % rounds_per_look != 0) continue;
        io::TimePoint now = clock.now();
        if (now - last_loop >= loop_interval) {
            busy |= loop_.run_once(io::Duration(0));
            if (loop_.stopping()) return;
            controller_.tick();
            last_loop = now;
        }
        if (std::exchange(busy, false)) last_busy = now;
        const io::Duration idle = now - last_busy;
        if (idle <= spin_time) continue;
        ++stats_.naps;
        const bool message = loop_.run_once(std::min(idle / nap_share, max_nap));
        if (loop_.stopping()) return;
        controller_.tick();
        if (controller_.poll() || message) {
            ++stats_.wake_ups;
            busy = true;
        }
        last_loop = clock.now();
    }
}

} // namespace lanepool::nvme::model
