// SPDX-License-Identifier: Apache-2.0
//
// One thread's loop over descriptors, timers and work posted from other threads. Everything registered here
// is called on the thread that runs the loop, one call at a time; only post() and stop() may be called from
// others.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "io/clock.h"

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

namespace lanepool::io {

class EventLoop {
  public:
    // What keeps a registration alive: destroying it unregisters, also from inside its own callback. Must be
    // destroyed on the loop's thread and before the loop.
    class Registration {
      public:
        Registration() = default;
        Registration(Registration&& other) noexcept;
        Registration& operator=(Registration&& other) noexcept;
        ~Registration() { reset(); }
        void reset();
        explicit operator bool() const { return loop_ != nullptr; }

      private:
        friend class EventLoop;
        Registration(EventLoop* loop, uint64_t id) : loop_(loop), id_(id) {}
        EventLoop* loop_ = nullptr;
        uint64_t id_ = 0;
    };

    static Result<std::unique_ptr<EventLoop>> create(const Clock& clock = system_clock());
    ~EventLoop();
    EventLoop(const EventLoop&) = delete;
    EventLoop& operator=(const EventLoop&) = delete;

    const Clock& clock() const { return clock_; }

    // Calls CALLBACK with the ready events while any of EVENTS (EPOLLIN, EPOLLOUT; errors and hang-ups
    // always) is there. FD is not owned and must outlive the registration. Errors: what epoll reports.
    Result<Registration> watch(int fd, uint32_t events, std::function<void(uint32_t events)> callback);
    // Changes the events of a registration made by watch().
    Result<> change(const Registration& registration, uint32_t events);

    // Calls CALLBACK once, at or after WHEN.
    Registration at(TimePoint when, std::function<void()> callback);
    Registration after(Duration delay, std::function<void()> callback) {
        return at(clock_.now() + delay, std::move(callback));
    }
    // Calls CALLBACK every INTERVAL until unregistered; late calls are not made up for.
    Registration every(Duration interval, std::function<void()> callback);

    // Runs WORK on the loop's thread, soon. From any thread. Work still waiting when the loop is destroyed is
    // dropped.
    void post(std::function<void()> work);

    // Until stop(). Returns at once if stop() was called before.
    void run();
    // From any thread, also from a callback.
    void stop();
    // stop() was called and run() has not returned since: for who drives the loop by run_once().
    bool stopping() const { return stopping_; }
    // Handles what is ready, waiting for at most TIMEOUT (negative: until something is). Returns whether
    // anything was.
    bool run_once(Duration timeout);

  private:
    struct Watch;
    struct Timer {
        uint64_t id;
        std::optional<Duration> interval;
        std::shared_ptr<std::function<void()>> callback;
    };

    EventLoop(const Clock& clock, UniqueFd epoll, UniqueFd wake)
        : clock_(clock), epoll_(std::move(epoll)), wake_(std::move(wake)) {}
    void remove(uint64_t id);
    Registration add_timer(TimePoint when, std::optional<Duration> interval, std::function<void()> callback);
    bool run_timers();
    bool run_posted();

    const Clock& clock_;
    UniqueFd epoll_;
    UniqueFd wake_;
    uint64_t next_id_ = 1; // 0 is the wake descriptor in epoll's data
    std::map<uint64_t, std::shared_ptr<Watch>> watches_;
    std::multimap<TimePoint, Timer> timers_;
    std::map<uint64_t, std::multimap<TimePoint, Timer>::iterator> timer_by_id_;
    std::atomic<bool> stopping_{false};
    std::mutex posted_mutex_;
    std::vector<std::function<void()>> posted_;
};

} // namespace lanepool::io
