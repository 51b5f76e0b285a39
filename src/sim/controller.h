// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "controller/engine.h"
#include "sim/checker.h"
#include "sim/network.h"
#include "sim/shared_store.h"

#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace lanepool::sim {

// The real engine, on a simulated disk and network; it dies and comes back. Where there are several, each
// campaigns as store/election.h does, and has an engine while it leads.
class SimController final : private controller::EnginePorts {
  public:
    // COMMITTED hears of everything that has become so.
    SimController(World& world, Checker& checker, Network& network, SharedStore& store,
                  std::function<void(const pool::Outcome&)> committed);
    ~SimController() override;

    void start();
    void crash(int64_t for_us);
    // It takes part in nothing meanwhile, and notices nothing: SIGSTOP and SIGCONT.
    void pause(int64_t for_us);
    void cut_off_from_store(int64_t for_us) { no_store_until_us_ = world_.timeline.now_us() + for_us; }
    void cut_off_from_agents(int64_t for_us) { no_agents_until_us_ = world_.timeline.now_us() + for_us; }
    void heal();

    bool running() const { return engine_ != nullptr; }
    bool paused() const { return world_.timeline.now_us() < paused_until_us_; }
    bool is_cut_off_from_agents() const { return world_.timeline.now_us() < no_agents_until_us_; }
    // Whether people and agents that look for a controller find this one.
    bool serves() const { return running() && !dying_ && !paused() && !is_cut_off_from_agents(); }
    const pool::Pool& pool() const { return engine_->pool(); }

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
    bool alone() const { return world_.options.controllers == 1; }
    bool is_cut_off_from_store() const { return world_.timeline.now_us() < no_store_until_us_; }
    // WORK, as soon as it is not paused, unless it has died by then.
    void when_running(std::function<void()> work);
    // One beat, or one look at the leader's key; where it is vacant, a campaign.
    void campaign();
    // Loads what is stored, and decides from then on.
    void lead();
    // Decides no more; what it was about to do has not happened.
    void step_down(const std::string& why);
    void step_down_soon(const std::string& why);

    Result<> store(const pool::Outcome& outcome) override;
    Result<> store_where_it_leads(const pool::Outcome& outcome);
    void committed(const pool::Outcome& outcome) override;
    // Has what came in stored soon, together with what comes until then; and wakes up in time.
    void arm();

    World& world_;
    Checker& checker_;
    Network& network_;
    SharedStore& store_;
    const std::function<void(const pool::Outcome&)> committed_;
    std::unique_ptr<controller::Engine> engine_;
    std::vector<std::unique_ptr<controller::Engine>> dead_; // until nothing of theirs is on the stack
    std::vector<std::shared_ptr<Connection>> connections_;
    uint64_t run_ = 0;
    uint64_t reign_ = 0; // another one with each engine
    bool flush_pending_ = false;
    bool dying_ = false; // in the middle of a transaction, or about to step down
    int64_t armed_us_ = INT64_MAX;
    uint64_t timer_ = 0;
    int64_t full_until_us_ = 0;
    int64_t paused_until_us_ = 0;
    int64_t no_store_until_us_ = 0;
    int64_t no_agents_until_us_ = 0;

    uint64_t leadership_ = 0; // the create revision of our key; 0: we do not lead
    uint64_t seen_ = 0;       // of another one's key: its last beat, and since when there was none
    int64_t seen_since_us_ = 0;
    bool carried_out_ = false; // a transaction of which we have not heard
};

// All of them.
using Controllers = std::vector<std::unique_ptr<SimController>>;

// One that can be asked, starting from number FROM; null where there is none. It may lead no more.
SimController* any_serving(const Controllers& controllers, size_t from = 0);

} // namespace lanepool::sim
