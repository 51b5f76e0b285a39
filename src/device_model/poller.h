// SPDX-License-Identifier: Apache-2.0
//
// A virtual device's one thread: spins over the device while there is work, naps longer and longer when there
// is none.
#pragma once

#include "io/event_loop.h"

#include <cstdint>

namespace lanepool::device_model {

// What is polled. All calls come from the poller's thread.
class Polled {
  public:
    virtual ~Polled() = default;
    // One round. Returns whether there was anything to do.
    virtual bool poll() = 0;
    // Deadlines and the like: once in a while, every 100 us to 3 ms while it is polled.
    virtual void tick() = 0;
    // Whether poll() may find something without the event loop having called anybody.
    virtual bool needs_polling() const = 0;
    // Whether a deadline is running: tick() is due every few milliseconds.
    virtual bool waits() const = 0;
};

struct PollerStats {
    uint64_t naps = 0;     // sleeps with the device unwatched
    uint64_t wake_ups = 0; // work that was found after a nap
    uint64_t sleeps = 0;   // waits for messages, with nothing to watch
};

class Poller {
  public:
    // What arrives after an idle time T waits at most: T / nap_share, up to max_nap.
    static constexpr io::Duration spin_time = std::chrono::milliseconds(2);
    static constexpr int64_t nap_share = 16;
    static constexpr io::Duration max_nap = std::chrono::milliseconds(3);

    // Both must outlive it.
    Poller(io::EventLoop& loop, Polled& device) : loop_(loop), device_(device) {}

    // Until the loop is stopped.
    void run();
    const PollerStats& stats() const { return stats_; }

  private:
    void spin();
    bool nap(io::TimePoint last_busy);

    io::EventLoop& loop_;
    Polled& device_;
    PollerStats stats_;
};

} // namespace lanepool::device_model
