// SPDX-License-Identifier: Apache-2.0
//
// What everything in the controller works on: the engine, the store, and whoever waits. One loop, one thread;
// the streams of clients post to it.
#pragma once

#include "controller/engine.h"
#include "controller/run.h"
#include "controller/stream.h"
#include "controller/watchers.h"
#include "io/event_loop.h"
#include "store/store.h"

#include <atomic>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

namespace lanepool::controller {

class TrailStream;

class Core final : private EnginePorts {
  public:
    // Loads what is stored. LOOP must outlive it. Errors: what the store and the pool say.
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
    // Hands the pool to INPUT now; ANSWER gets what came of it, when that is stored. What arrives at the same
    // time is stored together.
    template <class T>
    void decide(const std::function<Result<T>(pool::Pool&, pool::Now)>& input,
                std::function<void(Result<T>)> answer) {
        engine_->decide<T>(input, std::move(answer));
        touched();
    }
    const pool::Pool& pool() const { return engine_->pool(); }
    store::Store& store() { return *store_; }
    // The site file, as it is in force; empty: there is none.
    const std::string& site_text() const { return site_text_; }
    Watchers& watchers() { return watchers_; }
    // STREAM hears more() whenever the trail has grown.
    void follow(TrailStream& stream) { followers_.insert(&stream); }
    void unfollow(TrailStream& stream) { followers_.erase(&stream); }

    // ---- Agents. Call touched() after each input.
    Engine& engine() { return *engine_; }
    // Has what has arrived stored soon, and the clock set for what is due.
    void touched();

    const ControllerOptions& options() const { return options_; }
    bool stopping() const { return stopping_; }
    // For the administration socket.
    nlohmann::json status() const;
    nlohmann::json stats() const;
    io::TimePoint time() const { return loop_.clock().now(); }
    pool::Now now() const;

  private:
    Core(io::EventLoop& loop, std::unique_ptr<store::Store> store, const ControllerOptions& options)
        : loop_(loop), options_(options), store_(std::move(store)) {}
    Result<> store(const pool::Outcome& outcome) override { return store_->apply(outcome); }
    void committed(const pool::Outcome& outcome) override;
    static bool enter(std::atomic<size_t>& count, size_t limit);
    void flush();
    void arm();

    io::EventLoop& loop_;
    const ControllerOptions options_;
    std::unique_ptr<store::Store> store_;
    std::unique_ptr<Engine> engine_;
    std::string site_text_;
    std::set<Stream*> open_;
    Watchers watchers_;
    std::set<TrailStream*> followers_;
    bool stopping_ = false;
    bool flush_posted_ = false;
    std::atomic<size_t> streams_{0};
    std::atomic<size_t> calls_{0};
    io::EventLoop::Registration timer_;
};

} // namespace lanepool::controller
