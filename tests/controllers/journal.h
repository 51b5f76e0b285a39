// SPDX-License-Identifier: Apache-2.0
//
// What controllers have acknowledged, and what agents have done, in the order in which it happened.
#pragma once

#include "api/lanepool.pb.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <string>

namespace lanepool::controllers_test {

using Clock = std::chrono::steady_clock;

// Seconds of the monotonic clock, which every process of the machine shares.
inline double now_s() { return std::chrono::duration<double>(Clock::now().time_since_epoch()).count(); }

enum class Ack { borrowed, active, returning, returned, renewed };

struct Acknowledged {
    Ack what;
    uint64_t loan = 0;
    double asked_s = 0;    // when the request was sent
    double answered_s = 0; // when its acceptance came
    bool direct = false;   // by a client without anything in between
};

struct Performed {
    std::string host;
    v1::Step step;
};

// Thread-safe; only grows.
class Journal {
  public:
    void acknowledged(const Acknowledged& entry) {
        {
            const std::lock_guard lock(mutex_);
            acknowledged_.push_back(entry);
        }
        changed_.notify_all();
    }
    void performed(const std::string& host, const v1::Step& step) {
        const std::lock_guard lock(mutex_);
        performed_.push_back({host, step});
    }
    void failed(const std::string& why) {
        const std::lock_guard lock(mutex_);
        ++failures_;
        last_failure_ = why;
    }

    // The first acceptance of what was asked at SINCE or later; waits for it.
    std::optional<Acknowledged> next(double since_s, bool direct, std::chrono::milliseconds timeout) {
        std::unique_lock lock(mutex_);
        std::optional<Acknowledged> found;
        size_t looked_at = 0;
        changed_.wait_for(lock, timeout, [&] {
            for (; looked_at < acknowledged_.size() && !found; ++looked_at)
                if (const auto& entry = acknowledged_[looked_at];
                    entry.asked_s >= since_s && (!direct || entry.direct))
                    found = entry;
            return found.has_value();
        });
        return found;
    }

    // Those from number FROM on.
    std::deque<Acknowledged> acknowledged_from(size_t from) const {
        const std::lock_guard lock(mutex_);
        return {acknowledged_.begin() + static_cast<std::ptrdiff_t>(from), acknowledged_.end()};
    }
    std::deque<Performed> performed_from(size_t from) const {
        const std::lock_guard lock(mutex_);
        return {performed_.begin() + static_cast<std::ptrdiff_t>(from), performed_.end()};
    }
    std::pair<size_t, std::string> failures() const {
        const std::lock_guard lock(mutex_);
        return {failures_, last_failure_};
    }

  private:
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<Acknowledged> acknowledged_;
    std::deque<Performed> performed_;
    size_t failures_ = 0;
    std::string last_failure_;
};

} // namespace lanepool::controllers_test
