// SPDX-License-Identifier: Apache-2.0
#include "lanepool/event_thread.h"

#include <array>
#include <cerrno>
#include <sys/epoll.h>

namespace lanepool::client {

namespace {
void run(const std::weak_ptr<Sink>& weak, const std::function<void()>& work) {
    if (const auto sink = weak.lock()) sink->enter(work);
}
} // namespace

void Sink::close() {
    closed_ = true;
    if (thread_ == std::this_thread::get_id()) return; // by its own callback
    const std::lock_guard running(running_);
}

Result<std::unique_ptr<EventThread>> EventThread::create() {
    UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
    if (!epoll) return fail_errno("creating the event thread");
    auto wake = TRY(create_eventfd());
    epoll_event event{EPOLLIN, {}};
    event.data.u64 = 0;
    if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) != 0)
        return fail_errno("creating the event thread");
    return std::unique_ptr<EventThread>(new EventThread(std::move(epoll), std::move(wake)));
}

EventThread::~EventThread() = default;

void EventThread::post(std::weak_ptr<Sink> sink, std::function<void()> work) {
    const std::lock_guard lock(mutex_);
    posted_.push_back({std::move(sink), std::move(work)});
    if (posted_.size() == 1) signal(wake_);
}

size_t EventThread::waiting() const {
    const std::lock_guard lock(mutex_);
    return posted_.size();
}

Result<uint64_t> EventThread::watch(int fd, std::weak_ptr<Sink> sink, std::function<void()> work) {
    const std::lock_guard lock(mutex_);
    const uint64_t id = next_id_++;
    epoll_event event{EPOLLIN, {}};
    event.data.u64 = id;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return fail_errno("watching an interrupt");
    watches_.emplace(id, Watch{fd, std::make_shared<Work>(Work{std::move(sink), std::move(work)})});
    return id;
}

void EventThread::unwatch(uint64_t id) {
    const std::lock_guard lock(mutex_);
    const auto found = watches_.find(id);
    if (found == watches_.end()) return;
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, found->second.fd, nullptr);
    watches_.erase(found);
}

void EventThread::run() {
    while (!stopping_) {
        std::array<epoll_event, 16> events;
        const int count = ::epoll_wait(epoll_.get(), events.data(), events.size(), -1);
        if (count < 0 && errno != EINTR) return;
        for (int i = 0; i < count && !stopping_; ++i) {
            if (events[static_cast<size_t>(i)].data.u64)
                run_watch(events[static_cast<size_t>(i)].data.u64);
            else
                run_posted();
        }
    }
}

void EventThread::stop() {
    stopping_ = true;
    signal(wake_);
}

void EventThread::run_posted() {
    drain(wake_);
    std::deque<Work> posted;
    {
        const std::lock_guard lock(mutex_);
        posted.swap(posted_);
    }
    for (const Work& work : posted) {
        if (stopping_) return;
        client::run(work.sink, work.run);
    }
}

void EventThread::run_watch(uint64_t id) {
    std::shared_ptr<Work> work;
    {
        const std::lock_guard lock(mutex_);
        const auto found = watches_.find(id);
        if (found == watches_.end()) return;
        work = found->second.work;
    }
    client::run(work->sink, work->run);
}

} // namespace lanepool::client
