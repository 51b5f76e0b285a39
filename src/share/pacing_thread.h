// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "share/fabric.h"
#include "share/layout.h"
#include "share/pacer.h"

#include <array>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

namespace lanepool::sharing {

// Looks at all clients' counters once an interval, writes their allowances, and counts the heartbeat: on a
// thread of its own, so that no request of one client holds up all. Methods may be called from any thread.
class PacingThread {
  public:
    static constexpr io::Duration interval = std::chrono::milliseconds(1);

    // CONTROL must outlive this.
    PacingThread(ControlPage& control, const io::Clock& clock);
    PacingThread(const PacingThread&) = delete;
    PacingThread& operator=(const PacingThread&) = delete;
    ~PacingThread();

    // PAGE begins with the client's ClientPage.
    void add(uint32_t slot, unsigned weight, std::unique_ptr<SharedMemory> page);
    void remove(uint32_t slot);

    struct Rates {
        double total = 0; // units a second
        std::array<double, max_clients> of{};
    };
    Rates rates() const;

  private:
    void run();
    void tick(io::Duration elapsed);

    ControlPage& control_;
    const io::Clock& clock_;
    mutable std::mutex mutex_;
    std::condition_variable wake_;
    bool stop_ = false;
    Pacer pacer_;
    std::array<std::unique_ptr<SharedMemory>, max_clients> pages_;
    std::thread thread_;
};

} // namespace lanepool::sharing
