// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "io/event_loop.h"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

namespace lanepool::agent {

// A thread for what may block (connecting, identifying a device), so that the loop goes on beating.
class Background {
  public:
    explicit Background(io::EventLoop& loop) : loop_(loop), thread_([this] { run(); }) {}
    // Waits for the job under way; those that have not begun are dropped, and no answer comes afterwards.
    ~Background();

    // Runs WORK on the thread, then ANSWER with what it returned on the loop's thread.
    template <class Work, class Answer>
    void run(Work work, Answer answer) {
        add([this, work = std::move(work), answer = std::move(answer)]() mutable {
            auto value = std::make_shared<decltype(work())>(work());
            loop_.post([alive = alive_, value, answer = std::move(answer)]() mutable {
                if (*alive) answer(std::move(*value));
            });
        });
    }

  private:
    void add(std::function<void()> job);
    void run();

    io::EventLoop& loop_;
    // One that may block for long is destroyed on another thread than the loop's.
    std::shared_ptr<std::atomic<bool>> alive_ = std::make_shared<std::atomic<bool>>(true);
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::function<void()>> jobs_;
    bool stopping_ = false;
    std::thread thread_;
};

} // namespace lanepool::agent
