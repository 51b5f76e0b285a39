// SPDX-License-Identifier: Apache-2.0
//
// Lets other threads post to a loop on behalf of an object that may be destroyed meanwhile: what comes too
// late is dropped, also when it was posted in time.
#pragma once

#include "io/event_loop.h"

#include <functional>
#include <memory>
#include <mutex>

namespace lanepool::ntb {

class LoopGate : public std::enable_shared_from_this<LoopGate> {
  public:
    explicit LoopGate(io::EventLoop& loop) : loop_(&loop) {}

    // From any thread.
    void post(std::function<void()> work) {
        const std::lock_guard lock(mutex_);
        if (!loop_) return;
        loop_->post([self = shared_from_this(), work = std::move(work)] {
            if (self->open_) work();
        });
    }
    // On the loop's thread: nothing that was posted runs afterwards.
    void close() {
        open_ = false;
        const std::lock_guard lock(mutex_);
        loop_ = nullptr;
    }

  private:
    std::mutex mutex_;
    io::EventLoop* loop_;
    bool open_ = true; // used on the loop's thread
};

} // namespace lanepool::ntb
