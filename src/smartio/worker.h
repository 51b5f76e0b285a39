// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace lanepool::smartio {

// A thread that does one job after the other: where calls that block for a device or an adapter are made, so
// that an event loop never waits for hardware. Its methods may be called from any thread.
class Worker {
  public:
    using Job = std::function<void()>;

    Worker();
    // Waits for the job under way; the others are dropped.
    ~Worker();
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;

    void post(Job job);
    void post_first(Job job); // before everything that waits
    size_t waiting() const;

  private:
    void run();

    mutable std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<Job> jobs_;
    bool stopping_ = false;
    std::thread thread_;
};

} // namespace lanepool::smartio
