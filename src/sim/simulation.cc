// SPDX-License-Identifier: Apache-2.0
//
// One seed, from an empty site to one at rest.
#include "sim/agent.h"
#include "sim/controller.h"
#include "sim/faults.h"
#include "sim/workload.h"

namespace lanepool::sim {

namespace {
constexpr int64_t look_us = 1'000'000;
// So long a site needs at most to come to rest once nothing goes wrong any more.
constexpr int64_t settle_us = 900'000'000;
// A site that gets no further is one that hangs.
constexpr int64_t stall_us = 300'000'000;

// How host NUMBER borrows with its own kernel, where there are whole hosts.
using Modes = std::vector<pool::DmaMode>;
Modes modes_of(uint32_t number) {
    using enum pool::DmaMode;
    if (number % 4 == 1) return {bounce, iommu};
    if (number % 4 == 2) return {iommu, direct};
    return {};
}

class Simulation {
  public:
    Simulation(uint64_t seed, const SimOptions& options)
        : world_(seed, options), checker_(world_), network_(world_), workload_(world_, checker_, agents_),
          faults_(world_, network_, controllers_, agents_) {
        world_.result.seed = seed;
        for (uint32_t i = 0; i < options.controllers; ++i)
            controllers_.push_back(std::make_unique<SimController>(
                world_, checker_, network_, store_,
                [this](const pool::Outcome& outcome) { workload_.committed(outcome); }));
        network_.set_controllers(controllers_);
        workload_.set_controllers(controllers_);
        for (uint32_t i = 0; i < options.hosts; ++i) {
            const bool lends = i % 4 == 0;
            agents_.push_back(std::make_unique<SimAgent>(
                world_, checker_, network_, i, fmt::format("h{}", i), lends ? options.devices_per_lender : 0,
                (!lends || i % 8 == 0) && !(options.whole_hosts && i % 4 == 1),
                options.whole_hosts && i % 8 == 4, options.whole_hosts ? modes_of(i) : Modes()));
            agents_.back()->set_neighbours(&agents_);
        }
    }

    SeedResult run() {
        for (auto& controller : controllers_)
            controller->start();
        for (auto& agent : agents_)
            agent->start();
        workload_.start();
        faults_.start();
        look();
        work();
        if (world_.result.failure.empty()) settle();
        world_.result.events = world_.timeline.events();
        world_.result.simulated_us = world_.timeline.now_us();
        return world_.result;
    }

  private:
    void look() {
        checker_.look_at_everything();
        for (auto& agent : agents_)
            agent->use_loans();
        world_.timeline.after(look_us, [this] { look(); });
    }

    void work() {
        uint64_t loans = 0;
        int64_t progress_us = world_.timeline.now_us();
        while (!workload_.done() && world_.result.failure.empty()) {
            if (loans != world_.result.loans) {
                loans = world_.result.loans;
                progress_us = world_.timeline.now_us();
            }
            world_.check(world_.timeline.now_us() - progress_us < stall_us,
                         "nothing has come of any loan for {} s", stall_us / 1'000'000);
            world_.timeline.step(INT64_MAX);
        }
    }

    void settle() {
        world_.faults_on = false;
        network_.heal();
        for (auto& controller : controllers_)
            controller->heal();
        const int64_t until_us = world_.timeline.now_us() + settle_us;
        workload_.give_all_back();
        int64_t next_us = 0;
        while (world_.result.failure.empty() && world_.timeline.step(until_us)) {
            if (world_.timeline.now_us() < next_us) continue;
            next_us = world_.timeline.now_us() + look_us;
            if (at_rest()) break;
        }
        if (!world_.result.failure.empty()) return;
        const SimController* const controller = any_serving(controllers_);
        world_.check(controller != nullptr, "at the end no controller is there");
        if (controller == nullptr) return;
        checker_.finally(controller->pool().ledger().live_loans(), controller->pool().ledger().steps.size());
        for (auto& agent : agents_)
            world_.check(agent->borrowed() == 0, "at the end host {} has {} loans", agent->host(),
                         agent->borrowed());
        const auto verified = store_.disk.verify();
        world_.check(verified.has_value(), "the audit trail does not verify: {}",
                     verified ? "" : verified.error().message());
    }

    bool at_rest() {
        const SimController* const controller = any_serving(controllers_);
        if (controller == nullptr) return false;
        const auto& ledger = controller->pool().ledger();
        if (ledger.live_loans() != 0 || ledger.steps.size() != 0 || !checker_.all_at_rest()) return false;
        for (const auto& agent : agents_)
            if (agent->borrowed() != 0) return false;
        return true;
    }

    World world_;
    Checker checker_;
    Network network_;
    SharedStore store_;
    Controllers controllers_;
    std::vector<std::unique_ptr<SimAgent>> agents_;
    Workload workload_;
    Faults faults_;
};

} // namespace

SeedResult simulate(uint64_t seed, const SimOptions& options) { return Simulation(seed, options).run(); }

} // namespace lanepool::sim
