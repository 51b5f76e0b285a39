// SPDX-License-Identifier: Apache-2.0
//
// Events at the far end of a window for an adapter that gives no eventfds: whoever signals one of ours makes
// the adapter's thread do what reaches the other end.
#pragma once

#include "io/event_loop.h"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>

namespace lanepool::ntb {

// A relay is two descriptors.
inline constexpr size_t max_relays = 4096;

class Relays {
  public:
    // LOOP runs until everything that is relayed has been closed, or has stopped for good before this is
    // destroyed.
    explicit Relays(io::EventLoop& loop) : loop_(loop) {}
    Relays(const Relays&) = delete;
    Relays& operator=(const Relays&) = delete;

    // An eventfd that calls ACTION on the loop's thread, once for any number of signals that came before the
    // call. The same OWNER and OFFSET have the same one. From any thread. Errors: no_space.
    Result<UniqueFd> open(const void* owner, uint64_t offset_bytes, std::function<void()> action);
    // Returns when no action of OWNER's runs, and none will. From any thread, but not from an action.
    void close(const void* owner);

  private:
    struct Relay {
        uint64_t id;
        UniqueFd eventfd;
        std::mutex mutex;             // held by the action
        std::function<void()> action; // null: closed
    };
    struct Watched {
        std::shared_ptr<Relay> relay;
        io::EventLoop::Registration registration;
    };
    void watch(const std::shared_ptr<Relay>& relay);

    io::EventLoop& loop_;
    std::mutex mutex_;
    uint64_t next_id_ = 0;
    std::map<std::pair<const void*, uint64_t>, std::shared_ptr<Relay>> open_;
    std::map<uint64_t, Watched> watched_; // on the loop's thread
};

} // namespace lanepool::ntb
