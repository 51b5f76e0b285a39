// SPDX-License-Identifier: Apache-2.0
#include "sim/controller.h"

#include "sim/agent.h"

namespace lanepool::sim {

namespace {
// What arrives within so long shares a transaction.
constexpr int64_t group_us = 2000;
constexpr int64_t lazy_sync_us = 20'000;

controller::EngineOptions engine_options() {
    controller::EngineOptions options;
    options.pool.ended_loans_kept = 200;
    return options;
}
} // namespace

SimController::SimController(World& world, Checker& checker, Network& network,
                             std::function<void(const pool::Outcome&)> committed)
    : world_(world), checker_(checker), network_(network), committed_(std::move(committed)) {}

SimController::~SimController() = default;

void SimController::start() {
    dead_.clear();
    ++run_;
    flush_pending_ = dying_ = false;
    armed_us_ = INT64_MAX;
    const auto stored = disk_.snapshot();
    checker_.restarted(stored);
    auto made = controller::Engine::create(world_.timeline, *this, stored, {}, engine_options());
    if (!made) {
        // A disk that is full when it starts keeps it from starting; everything else must not.
        world_.check(made.error().code() == Errc::no_space || dying_, "the controller does not start: {}",
                     made.error().message());
        world_.timeline.after(500'000, [this, run = run_] {
            if (run == run_) start();
        });
        return;
    }
    engine_ = std::move(*made);
    arm();
}

void SimController::crash(int64_t for_us) {
    if (!engine_) return;
    ++run_;
    world_.count(Fault::controller_crash);
    if (const size_t lost = disk_.crash(); lost != 0)
        world_.result.faults[static_cast<size_t>(Fault::unsynced_write_lost)] += lost;
    dead_.push_back(std::move(engine_));
    network_.controller_died(std::exchange(connections_, {}));
    world_.timeline.after(for_us, [this, run = run_] {
        if (run == run_) start();
    });
}

// ---- storing

Result<> SimController::store(const pool::Outcome& outcome) {
    if (world_.timeline.now_us() < full_until_us_) return fail(Errc::no_space, "the disk is full");
    if (engine_ && world_.fault(Fault::controller_crash, 30)) {
        // It dies in the middle: what it wrote may be there or not, and nobody hears of it.
        const bool written = world_.random.chance(500'000);
        disk_.apply(outcome);
        if (written) {
            disk_.sync();
            checker_.committed(outcome);
        }
        dying_ = true;
        for (const auto& connection : connections_)
            connection->open_at_controller = false; // nothing goes out any more
        world_.timeline.after(0, [this, run = run_] {
            if (run == run_) crash(world_.random.between(100'000, 5'000'000));
        });
        return fail(Errc::io, "the controller has died");
    }
    if (!world_.without(Protection::write_ordering)) {
        disk_.write_through(outcome);
        return {};
    }
    disk_.apply(outcome);
    world_.timeline.after(lazy_sync_us, [this, run = run_] {
        if (run == run_) disk_.sync();
    });
    return {};
}

void SimController::committed(const pool::Outcome& outcome) {
    ++world_.result.transactions;
    checker_.committed(outcome);
    committed_(outcome);
}

void SimController::arm() {
    if (!engine_) return;
    if (engine_->dirty() && !std::exchange(flush_pending_, true))
        world_.timeline.after(group_us, [this, run = run_] {
            if (run != run_) return;
            flush_pending_ = false;
            static_cast<void>(engine_->flush()); // who is concerned has been told
            arm();
        });
    const int64_t next =
        std::chrono::duration_cast<std::chrono::microseconds>(engine_->next_tick().time_since_epoch())
            .count();
    if (next >= armed_us_ && armed_us_ > world_.timeline.now_us()) return;
    armed_us_ = next;
    world_.timeline.at(next, [this, run = run_, timer = ++timer_] {
        if (run != run_ || timer != timer_) return;
        armed_us_ = INT64_MAX;
        engine_->tick();
        arm();
    });
}

// ---- agents

void SimController::listen(std::shared_ptr<Connection> connection) {
    engine_->listen(*connection);
    connections_.push_back(std::move(connection));
}

void SimController::take(Connection& connection, const AgentMessage& message) {
    if (!engine_ || dying_) return;
    if (const auto* hello = std::get_if<pool::Hello>(&message))
        engine_->hello(connection, *hello);
    else if (const auto* answer = std::get_if<pool::StepAnswer>(&message))
        engine_->answered(connection, *answer);
    else if (const auto* lost = std::get_if<pool::LoanLost>(&message))
        engine_->lost(connection, *lost);
    else
        engine_->heard(connection, std::nullopt);
    arm();
}

void SimController::gone(Connection& connection, const std::string& why) {
    if (!engine_ || dying_) return;
    engine_->gone(connection, why);
    std::erase_if(connections_, [&](const auto& each) { return each.get() == &connection; });
    arm();
}

} // namespace lanepool::sim
