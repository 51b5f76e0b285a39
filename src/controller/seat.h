// SPDX-License-Identifier: Apache-2.0
//
// The place of this controller among others: whether it leads, and while it does its core. Alone, with a
// database, it leads for as long as it runs. With etcd it campaigns; when it is elected it loads what is
// stored and makes a core of it, and when it is not the leader any more the core goes, with everybody who is
// connected. While etcd elects its own leader ours cannot be certain: nothing is answered then, but the core
// waits for a moment before it goes.
#pragma once

#include "controller/core.h"
#include "controller/run.h"
#include "io/event_loop.h"
#include "store/election.h"

#include <atomic>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace lanepool::controller {

class Seat {
  public:
    // LOOP must outlive it. Errors: of the options; and without etcd what the store and the pool say.
    static Result<std::unique_ptr<Seat>> create(io::EventLoop& loop, const ControllerOptions& options);
    // On the loop's thread, as is everything else unless it says so. Call stop() before.
    ~Seat();
    Seat(const Seat&) = delete;
    Seat& operator=(const Seat&) = delete;

    // ---- From any thread.
    void post(std::function<void()> work) { loop_.post(std::move(work)); }
    // Whether there is room for one more stream or call; each that is let in leaves again.
    bool enter_stream() { return enter(streams_, options_.streams); }
    void leave_stream() { --streams_; }
    bool enter_call() { return enter(calls_, options_.calls); }
    void leave_call() { --calls_; }
    struct Leading {
        bool here = false; // and it serves
        std::string name;  // empty: nobody leads, as far as is known
        std::string endpoint;
    };
    Leading leading() const;

    // ---- On the loop's thread.
    // What serves now; or what to answer instead. Ask anew for each request: a core that has gone closes its
    // streams, and is not to be kept by anybody else.
    using Serving = tl::expected<std::reference_wrapper<Core>, grpc::Status>;
    Serving core() const;
    // Closes the streams of peers that are not let in any more.
    void recheck(const Peers& peers) {
        if (core_) core_->recheck(peers);
    }
    // Closes everything; nothing is served any more. Lets another controller lead at once.
    void stop();
    // For the administration socket.
    nlohmann::json status() const;
    nlohmann::json stats() const;

  private:
    Seat(io::EventLoop& loop, const ControllerOptions& options) : loop_(loop), options_(options) {}
    static bool enter(std::atomic<size_t>& count, size_t limit);
    const std::string& endpoint() const {
        return options_.advertise.empty() ? options_.listen : options_.advertise;
    }
    Result<> campaign();
    // Sees to it that there is a core exactly while we lead.
    void look();
    void look_again(io::Duration delay);
    // How long etcd may keep us waiting before everybody is better off elsewhere.
    std::chrono::milliseconds patience() const { return 3 * options_.election_ttl; }
    // How much longer the core waits to serve again; nothing: not at all.
    std::optional<std::chrono::milliseconds> worth_waiting() const;
    void lead(const store::Leadership& leadership);
    Result<> load(const store::Leadership& leadership);
    void stand_by();
    // Whether what the core says and does is what counts.
    bool serves() const;
    grpc::Status elsewhere() const;

    io::EventLoop& loop_;
    const ControllerOptions options_;
    std::atomic<size_t> streams_{0};
    std::atomic<size_t> calls_{0};

    std::shared_ptr<store::EtcdClient> etcd_;
    std::unique_ptr<Core> core_;
    store::Leadership leadership_;    // by which the core writes
    std::atomic<int64_t> serving_{0}; // its revision, while there is a core
    bool stopping_ = false;
    io::EventLoop::Registration retry_;
    std::unique_ptr<store::Election> election_; // the last: it calls us until it has gone
};

} // namespace lanepool::controller
