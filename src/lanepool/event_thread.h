// SPDX-License-Identifier: Apache-2.0
//
// The thread of a session on which callbacks are called, and what they are called on.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

namespace lanepool::client {

// What has callbacks. None runs after close() has returned, but for the one that calls close().
class Sink {
  public:
    virtual ~Sink() = default;

    // Runs WORK unless closed; no other work of this sink runs at the same time.
    template <class Work>
    void enter(Work&& work) {
        const std::lock_guard running(running_);
        if (closed_) return;
        thread_ = std::this_thread::get_id();
        work();
        thread_ = std::thread::id();
    }
    void close();
    bool closed() const { return closed_; }

  private:
    std::mutex running_;
    std::atomic<std::thread::id> thread_{}; // that runs work now
    std::atomic<bool> closed_{false};
};

class EventThread {
  public:
    static Result<std::unique_ptr<EventThread>> create();
    // After stop(), and not on the thread itself.
    ~EventThread();

    // Runs WORK on the thread, in order, if SINK is there and open then.
    void post(std::weak_ptr<Sink> sink, std::function<void()> work);
    // How much waits because a callback has not returned.
    size_t waiting() const;
    // Runs WORK on the thread whenever FD is readable, until unwatch(). FD must stay open until then.
    Result<uint64_t> watch(int fd, std::weak_ptr<Sink> sink, std::function<void()> work);
    void unwatch(uint64_t id);

    // The thread: runs until stop(), which may be called by any, also by the thread. What waits is dropped.
    void run();
    void stop();

  private:
    struct Work {
        std::weak_ptr<Sink> sink;
        std::function<void()> run;
    };
    struct Watch {
        int fd;
        std::shared_ptr<Work> work;
    };
    EventThread(UniqueFd epoll, UniqueFd wake) : epoll_(std::move(epoll)), wake_(std::move(wake)) {}
    void run_posted();
    void run_watch(uint64_t id);

    UniqueFd epoll_;
    UniqueFd wake_;
    mutable std::mutex mutex_;
    std::deque<Work> posted_;
    std::map<uint64_t, Watch> watches_;
    uint64_t next_id_ = 1; // 0 is the wake descriptor
    std::atomic<bool> stopping_{false};
};

} // namespace lanepool::client
