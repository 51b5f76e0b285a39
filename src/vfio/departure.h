// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

namespace lanepool::vfio {

// Waits, on a thread of its own, for the kernel to say that a function is to go or has failed.
class Departure {
  public:
    static Result<std::unique_ptr<Departure>> create();
    // No callback runs any more afterwards. Not to be called by the callback.
    ~Departure();
    Departure(const Departure&) = delete;
    Departure& operator=(const Departure&) = delete;

    // What the kernel is to signal.
    const UniqueFd& eventfd() const { return said_; }
    // Called on the thread, once: when it has been said, or at once if it has been before. Empty: nothing is.
    void set_callback(std::function<void()> callback);
    bool said() const { return gone_; }

  private:
    Departure(UniqueFd said, UniqueFd wake) : said_(std::move(said)), wake_(std::move(wake)) {}
    void run();

    const UniqueFd said_;
    const UniqueFd wake_;
    std::atomic<bool> gone_{false};
    std::atomic<bool> stopping_{false};
    std::mutex mutex_; // held while the callback runs
    std::function<void()> callback_;
    std::thread thread_;
};

} // namespace lanepool::vfio
