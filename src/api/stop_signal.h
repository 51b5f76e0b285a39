// SPDX-License-Identifier: Apache-2.0
//
// Ends whatever several threads wait for: sleeps, sockets, calls.
#pragma once

#include "base/unique_fd.h"

#include <chrono>
#include <condition_variable>
#include <grpcpp/client_context.h>
#include <mutex>
#include <poll.h>
#include <set>
#include <sys/eventfd.h>
#include <unistd.h>

namespace lanepool::api {

// Thread-safe.
class StopSignal {
  public:
    using Clock = std::chrono::steady_clock;

    void stop() {
        {
            const std::lock_guard lock(mutex_);
            stopped_ = true;
            for (auto* context : contexts_)
                context->TryCancel();
        }
        changed_.notify_all();
        const uint64_t one = 1;
        // It cannot be full. Without a descriptor those who wait for a socket notice a little later.
        static_cast<void>(!::write(event_.get(), &one, sizeof one));
    }
    bool stopped() const {
        const std::lock_guard lock(mutex_);
        return stopped_;
    }
    // Sleeps; false: it is over.
    bool sleep(std::chrono::milliseconds time) {
        std::unique_lock lock(mutex_);
        return !changed_.wait_for(lock, time, [this] { return stopped_; });
    }
    // Waits until there is something to be read from SOCKET; false: it is over, or the time is.
    bool wait_readable(int socket, Clock::time_point deadline) const {
        while (!stopped()) {
            const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
            if (left <= 0) return false;
            pollfd watched[] = {{socket, POLLIN, 0}, {event_.get(), POLLIN, 0}};
            const long limit = event_ ? left : std::min<long>(left, 50);
            if (::poll(watched, 2, static_cast<int>(std::min<long>(limit, 60'000))) > 0 && watched[0].revents)
                return true;
        }
        return false;
    }

    // While it lives, stop() cancels the call of CONTEXT.
    class Call {
      public:
        Call(StopSignal& signal, grpc::ClientContext& context) : signal_(signal), context_(context) {
            const std::lock_guard lock(signal.mutex_);
            signal.contexts_.insert(&context);
            if (signal.stopped_) context.TryCancel();
        }
        ~Call() {
            const std::lock_guard lock(signal_.mutex_);
            signal_.contexts_.erase(&context_);
        }
        Call(const Call&) = delete;
        Call& operator=(const Call&) = delete;

      private:
        StopSignal& signal_;
        grpc::ClientContext& context_;
    };

  private:
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    bool stopped_ = false;
    std::set<grpc::ClientContext*> contexts_;
    const UniqueFd event_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
};

} // namespace lanepool::api
