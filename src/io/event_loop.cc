// SPDX-License-Identifier: Apache-2.0
#include "io/event_loop.h"

#include <algorithm>
#include <array>
#include <sys/epoll.h>

namespace lanepool::io {

struct EventLoop::Watch {
    int fd;
    std::function<void(uint32_t)> callback;
};

EventLoop::Registration::Registration(Registration&& other) noexcept
    : loop_(std::exchange(other.loop_, nullptr)), id_(std::exchange(other.id_, 0)) {}

EventLoop::Registration& EventLoop::Registration::operator=(Registration&& other) noexcept {
    if (this != &other) {
        reset();
        loop_ = std::exchange(other.loop_, nullptr);
        id_ = std::exchange(other.id_, 0);
    }
    return *this;
}

void EventLoop::Registration::reset() {
    if (auto* loop = std::exchange(loop_, nullptr)) loop->remove(id_);
}

Result<std::unique_ptr<EventLoop>> EventLoop::create(const Clock& clock) {
    UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
    if (!epoll) return fail_errno("creating an epoll instance");
    auto wake = TRY(create_eventfd());
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = 0;
    if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) != 0)
        return fail_errno("watching the wake-up eventfd");
    return std::unique_ptr<EventLoop>(new EventLoop(clock, std::move(epoll), std::move(wake)));
}

EventLoop::~EventLoop() = default;

Result<EventLoop::Registration> EventLoop::watch(int fd, uint32_t events,
                                                 std::function<void(uint32_t)> callback) {
    epoll_event event{};
    event.events = events;
    event.data.u64 = next_id_;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
        return fail_errno("watching a file descriptor");
    watches_.emplace(next_id_, std::make_shared<Watch>(Watch{fd, std::move(callback)}));
    return Registration(this, next_id_++);
}

Result<> EventLoop::change(const Registration& registration, uint32_t events) {
    const auto found = watches_.find(registration.id_);
    if (found == watches_.end()) return fail(Errc::not_found, "this registration watches no descriptor");
    epoll_event event{};
    event.events = events;
    event.data.u64 = registration.id_;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, found->second->fd, &event) != 0)
        return fail_errno("changing watched events");
    return {};
}

EventLoop::Registration EventLoop::add_timer(TimePoint when, std::optional<Duration> interval,
                                             std::function<void()> callback) {
    const uint64_t id = next_id_++;
    auto shared = std::make_shared<std::function<void()>>(std::move(callback));
    timer_by_id_[id] = timers_.emplace(when, Timer{id, interval, std::move(shared)});
    return Registration(this, id);
}

EventLoop::Registration EventLoop::at(TimePoint when, std::function<void()> callback) {
    return add_timer(when, std::nullopt, std::move(callback));
}

EventLoop::Registration EventLoop::every(Duration interval, std::function<void()> callback) {
    return add_timer(clock_.now() + interval, interval, std::move(callback));
}

void EventLoop::remove(uint64_t id) {
    if (const auto watch = watches_.find(id); watch != watches_.end()) {
        // The descriptor may be closed already; then epoll has forgotten it by itself.
        ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, watch->second->fd, nullptr);
        watches_.erase(watch);
    } else if (const auto timer = timer_by_id_.find(id); timer != timer_by_id_.end()) {
        timers_.erase(timer->second);
        timer_by_id_.erase(timer);
    }
}

void EventLoop::post(std::function<void()> work) {
    {
        const std::lock_guard lock(posted_mutex_);
        posted_.push_back(std::move(work));
    }
    signal(wake_);
}

void EventLoop::stop() {
    stopping_ = true;
    signal(wake_);
}

void EventLoop::run() {
    while (!stopping_)
        run_once(Duration(-1));
    stopping_ = false;
}

bool EventLoop::run_posted() {
    std::vector<std::function<void()>> work;
    {
        const std::lock_guard lock(posted_mutex_);
        work.swap(posted_);
    }
    for (auto& item : work)
        item();
    return !work.empty();
}

bool EventLoop::run_timers() {
    bool any = false;
    const TimePoint now = clock_.now(); // timers that callbacks add for "now" wait for the next round
    while (!timers_.empty() && timers_.begin()->first <= now) {
        auto node = timers_.extract(timers_.begin());
        const auto callback = node.mapped().callback; // survives an unregistration from inside the call
        if (node.mapped().interval) {
            node.key() = std::max(node.key() + *node.mapped().interval, now);
            const uint64_t id = node.mapped().id;
            timer_by_id_[id] = timers_.insert(std::move(node));
        } else {
            timer_by_id_.erase(node.mapped().id);
        }
        (*callback)();
        any = true;
        if (stopping_) break;
    }
    return any;
}

bool EventLoop::run_once(Duration timeout) {
    if (!timers_.empty()) {
        const Duration until_timer = std::max(Duration(0), timers_.begin()->first - clock_.now());
        timeout = timeout < Duration(0) ? until_timer : std::min(timeout, until_timer);
    }
    timespec limit{};
    limit.tv_sec = timeout.count() / 1'000'000'000;
    limit.tv_nsec = timeout.count() % 1'000'000'000;
    std::array<epoll_event, 64> events;
    const int ready = ::epoll_pwait2(epoll_.get(), events.data(), events.size(),
                                     timeout < Duration(0) ? nullptr : &limit, nullptr);
    bool any = false;
    for (int i = 0; i < ready; ++i) {
        const auto& event = events[static_cast<size_t>(i)];
        const uint64_t id = event.data.u64; // a copy: epoll_event is packed, nothing may refer into it
        if (id == 0) {
            drain(wake_);
            continue;
        }
        // Ids are never used twice: an event for a watch that an earlier callback removed finds nothing.
        const auto found = watches_.find(id);
        if (found == watches_.end()) continue;
        const auto watch = found->second;
        watch->callback(event.events);
        any = true;
    }
    any |= run_timers();
    any |= run_posted();
    return any;
}

} // namespace lanepool::io
