// SPDX-License-Identifier: Apache-2.0
//
// The one owner of the pool and its store: takes inputs one by one, stores what follows from each, and only
// then lets anybody know. Everything here is called on the loop's thread, except where it says otherwise.
#pragma once

#include "controller/progress.h"
#include "controller/run.h"
#include "controller/stream.h"
#include "io/event_loop.h"
#include "pool/pool.h"
#include "store/store.h"

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

namespace lanepool::controller {

class AgentStream;
class WatchStream;
class TrailStream;

class Core {
  public:
    static Result<std::unique_ptr<Core>> create(io::EventLoop& loop, std::unique_ptr<store::Store> store,
                                                const ControllerOptions& options);

    // ---- From any thread.
    void post(std::function<void()> work) { loop_.post(std::move(work)); }
    // Whether there is room for one more stream or call; each that is let in leaves again.
    bool enter_stream() { return enter(streams_, options_.streams); }
    void leave_stream() { --streams_; }
    bool enter_call() { return enter(calls_, options_.calls); }
    void leave_call() { --calls_; }

    // ---- Streams that are there, to be closed when the controller stops.
    // False: it is stopping, and the stream has been closed.
    bool add(Stream& stream);
    void remove(Stream& stream) { open_.erase(&stream); }
    void stop();

    // ---- People.
    // Takes INPUT(pool, now); its answer, when what follows from it is stored.
    template <class T>
    Result<T> decide(const std::function<Result<T>(pool::Pool&, pool::Now)>& input) {
        ++decisions_;
        auto answer = input(*pool_, now());
        auto stored = keep();
        // A refusal stays one, also where it could not be written to the audit trail.
        if (answer && !stored) return tl::unexpected<Error>(std::move(stored).error());
        return answer;
    }
    const pool::Pool& pool() const { return *pool_; }
    store::Store& store() { return *store_; }
    // STREAM hears changed() whenever something about this device has.
    void watch(pool::Fdid fdid, WatchStream& stream) { watchers_[fdid].insert(&stream); }
    void unwatch(pool::Fdid fdid, WatchStream& stream);
    // STREAM hears more() whenever the trail has grown.
    void follow(TrailStream& stream) { followers_.insert(&stream); }
    void unfollow(TrailStream& stream) { followers_.erase(&stream); }

    // ---- Agents.
    // Connections that say nothing are closed, also those that have not said whose they are.
    void listen_to(AgentStream& stream) { agent_streams_.insert(&stream); }
    void listen_no_more(AgentStream& stream) { agent_streams_.erase(&stream); }
    // An error means that the stream is to be closed: its agent connects again and says what is
    // there.
    Result<v1::Welcome> hello(AgentStream& stream, const v1::Hello& hello);
    Result<> heard(const std::string& host, const v1::AgentMessage& message);
    // Whatever it was of host: nothing, if another stream has taken its place.
    void agent_gone(AgentStream& stream, const std::string& host, const std::string& why);

    // For the administration socket.
    nlohmann::json status() const;
    nlohmann::json stats() const;
    io::TimePoint time() const { return loop_.clock().now(); }

  private:
    Core(io::EventLoop& loop, std::unique_ptr<store::Store> store, std::unique_ptr<pool::Pool> pool,
         const ControllerOptions& options);
    static bool enter(std::atomic<size_t>& count, size_t limit);
    pool::Now now() const;
    // Stores what has changed, then acts upon it. Nothing has happened where that fails.
    Result<> keep();
    void tell(const pool::Outcome& outcome);
    void send_orders(const std::vector<pool::Order>& orders);
    void tick();
    void arm();
    void check_heartbeats();
    void disconnect(const std::string& host, const std::string& why);

    io::EventLoop& loop_;
    const ControllerOptions options_;
    std::unique_ptr<store::Store> store_;
    std::unique_ptr<pool::Pool> pool_;
    std::set<Stream*> open_;
    std::set<AgentStream*> agent_streams_;       // all of them
    std::map<std::string, AgentStream*> agents_; // by host, after their Hello
    // Disconnections that could not be stored yet: the reason, by host.
    std::map<std::string, std::string> unstored_;
    std::map<pool::Fdid, std::set<WatchStream*>> watchers_;
    std::set<TrailStream*> followers_;
    bool stopping_ = false;
    std::atomic<size_t> streams_{0};
    std::atomic<size_t> calls_{0};
    uint64_t decisions_ = 0;
    uint64_t agent_messages_ = 0;
    uint64_t transactions_ = 0;
    uint64_t failed_transactions_ = 0;
    io::Duration store_time_{0};
    io::EventLoop::Registration timer_;
    io::EventLoop::Registration heartbeats_;
};

} // namespace lanepool::controller
