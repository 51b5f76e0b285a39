// SPDX-License-Identifier: Apache-2.0
//
// The model's one thread: spins over doorbells while there is work, naps longer and longer when there is
// none.
#pragma once

#include "io/event_loop.h"
#include "nvme/model/controller.h"

#include <cstdint>

namespace lanepool::nvme::model {

struct PollerStats {
    uint64_t naps = 0;     // sleeps with the doorbells unwatched
    uint64_t wake_ups = 0; // work that was found after a nap
    uint64_t sleeps = 0;   // waits for messages, with no queue to watch
};

class Poller {
  public:
    // What a command that arrives after an idle time T waits at most: T / nap_share, up to max_nap.
    static constexpr io::Duration spin_time = std::chrono::milliseconds(2);
    static constexpr int64_t nap_share = 16;
    static constexpr io::Duration max_nap = std::chrono::milliseconds(2);

    static Result<std::unique_ptr<Poller>> create(io::EventLoop& loop, Media& media, Controller& controller);

    // Until the loop is stopped.
    void run();
    const PollerStats& stats() const { return stats_; }

  private:
    Poller(io::EventLoop& loop, Controller& controller) : loop_(loop), controller_(controller) {}
    void serve_queues();

    io::EventLoop& loop_;
    Controller& controller_;
    io::EventLoop::Registration files_watch_;
    PollerStats stats_;
};

} // namespace lanepool::nvme::model
