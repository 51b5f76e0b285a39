// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "controller/engine.h"
#include "sim/checker.h"
#include "sim/disk.h"
#include "sim/network.h"

#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace lanepool::sim {

// The real engine, on a simulated disk and network; it dies and comes back.
class SimController final : private controller::EnginePorts {
  public:
    // COMMITTED hears of everything that has become so.
    SimController(World& world, Checker& checker, Network& network,
                  std::function<void(const pool::Outcome&)> committed);
    ~SimController() override;

    void start();
    void crash(int64_t for_us);
    bool running() const { return engine_ != nullptr; }
    const pool::Pool& pool() const { return engine_->pool(); }
    const Disk& disk() const { return disk_; }

    // ---- From the network.
    void listen(std::shared_ptr<Connection> connection);
    void take(Connection& connection, const AgentMessage& message);
    void gone(Connection& connection, const std::string& why);

    // ---- People.
    template <class T>
    void decide(const std::function<Result<T>(pool::Pool&, pool::Now)>& input,
                std::function<void(Result<T>)> answer) {
        ++world_.result.requests;
        engine_->decide<T>(input, std::move(answer));
        arm();
    }
    void fill_disk(int64_t for_us) { full_until_us_ = world_.timeline.now_us() + for_us; }

  private:
    Result<> store(const pool::Outcome& outcome) override;
    void committed(const pool::Outcome& outcome) override;
    // Has what came in stored soon, together with what comes until then; and wakes up in time.
    void arm();

    World& world_;
    Checker& checker_;
    Network& network_;
    const std::function<void(const pool::Outcome&)> committed_;
    Disk disk_;
    std::unique_ptr<controller::Engine> engine_;
    std::vector<std::unique_ptr<controller::Engine>> dead_; // until nothing of theirs is on the stack
    std::vector<std::shared_ptr<Connection>> connections_;
    uint64_t run_ = 0;
    bool flush_pending_ = false;
    bool dying_ = false; // in the middle of a transaction
    int64_t armed_us_ = INT64_MAX;
    uint64_t timer_ = 0;
    int64_t full_until_us_ = 0;
};

} // namespace lanepool::sim
