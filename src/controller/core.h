// SPDX-License-Identifier: Apache-2.0
//
// What a controller serves while it leads: the engine, the store, and whoever waits. One loop, one thread.
#pragma once

#include "controller/audit_verifier.h"
#include "controller/engine.h"
#include "controller/peers.h"
#include "controller/run.h"
#include "controller/stream.h"
#include "controller/watchers.h"
#include "io/event_loop.h"
#include "store/store.h"

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

namespace lanepool::controller {

class TrailStream;

class Core final : private EnginePorts {
  public:
    // Loads what is stored. LOOP must outlive it. UNUSABLE is called when the store is not usable any more
    // (store.h): the core is to go, but not from inside of the call. Errors: what the store and the pool say.
    static Result<std::unique_ptr<Core>> create(io::EventLoop& loop, std::unique_ptr<store::Store> store,
                                                const ControllerOptions& options,
                                                std::function<void()> unusable);

    // ---- Streams that are there, to be closed with it.
    void add(Stream& stream) { open_.insert(&stream); }
    void remove(Stream& stream) { open_.erase(&stream); }
    // Stores what has arrived, and answers.
    void flush();
    // The end: what is not stored yet has not happened, all streams end with STATUS, and nothing is done any
    // more. What it has posted to the loop still has to run before it is destroyed.
    void close(const grpc::Status& status);
    bool closed() const { return closed_; }
    // Closes those of peers that are not let in any more.
    void recheck(const Peers& peers);

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
    AuditVerifier& verifier() { return verifier_; }
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
    // For the administration socket.
    nlohmann::json status() const;
    nlohmann::json stats() const;
    io::TimePoint time() const { return loop_.clock().now(); }
    pool::Now now() const;

  private:
    Core(io::EventLoop& loop, std::unique_ptr<store::Store> store, const ControllerOptions& options,
         std::function<void()> unusable)
        : loop_(loop), options_(options), unusable_(std::move(unusable)), store_(std::move(store)) {}
    Result<> store(const pool::Outcome& outcome) override;
    void committed(const pool::Outcome& outcome) override;
    void arm();

    io::EventLoop& loop_;
    const ControllerOptions options_;
    const std::function<void()> unusable_;
    std::unique_ptr<store::Store> store_;
    AuditVerifier verifier_{loop_, *store_};
    std::unique_ptr<Engine> engine_;
    std::string site_text_;
    std::set<Stream*> open_;
    Watchers watchers_;
    std::set<TrailStream*> followers_;
    bool closed_ = false;
    bool flush_posted_ = false;
    io::EventLoop::Registration timer_;
};

} // namespace lanepool::controller
