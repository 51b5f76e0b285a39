// SPDX-License-Identifier: Apache-2.0
#include "sim/controller.h"

#include "sim/agent.h"

namespace lanepool::sim {

namespace {
// What arrives within so long shares a transaction.
constexpr int64_t group_us = 2000;
constexpr int64_t lazy_sync_us = 20'000;
// As store::ElectionOptions sets it.
constexpr int64_t ttl_us = 1'000'000;

controller::EngineOptions engine_options() {
    controller::EngineOptions options;
    options.pool.ended_loans_kept = 200;
    return options;
}
} // namespace

SimController::SimController(World& world, Checker& checker, Network& network, SharedStore& store,
                             std::function<void(const pool::Outcome&)> committed)
    : world_(world), checker_(checker), network_(network), store_(store), committed_(std::move(committed)) {}

SimController::~SimController() = default;

SimController* any_serving(const Controllers& controllers, size_t from) {
    for (size_t i = 0; i < controllers.size(); ++i)
        if (auto& one = controllers[(from + i) % controllers.size()]; one->serves()) return one.get();
    return nullptr;
}

void SimController::start() {
    ++run_;
    paused_until_us_ = 0;
    leadership_ = seen_ = 0;
    if (alone()) return lead();
    campaign();
}

void SimController::crash(int64_t for_us) {
    if (!engine_ && alone()) return;
    ++run_;
    world_.count(Fault::controller_crash);
    if (const size_t lost = store_.disk.crash(); lost != 0)
        world_.result.faults[static_cast<size_t>(Fault::unsynced_write_lost)] += lost;
    if (engine_) dead_.push_back(std::move(engine_));
    network_.controller_died(std::exchange(connections_, {}));
    world_.timeline.after(for_us, [this, run = run_] {
        if (run == run_) start();
    });
}

void SimController::pause(int64_t for_us) {
    paused_until_us_ = std::max(paused_until_us_, world_.timeline.now_us() + for_us);
    network_.controller_paused(connections_);
}

void SimController::heal() { no_store_until_us_ = no_agents_until_us_ = 0; }

void SimController::when_running(std::function<void()> work) {
    if (!paused()) return work();
    world_.timeline.at(paused_until_us_, [this, run = run_, work = std::move(work)]() mutable {
        if (run == run_) when_running(std::move(work));
    });
}

// ---- who leads

void SimController::campaign() {
    world_.timeline.after(ttl_us / 5, [this, run = run_] {
        if (run == run_) when_running([this] { campaign(); });
    });
    if (is_cut_off_from_store()) {
        seen_ = 0; // what was not read does not count
        return;
    }
    auto& key = store_.leader;
    if (leadership_ != 0) {
        if (!store_.is_led_by(leadership_)) return step_down("another controller has been elected");
        key->mod_revision = store_.next_revision();
        if (!engine_) lead();
        return;
    }
    if (key && key->mod_revision != seen_) {
        seen_ = key->mod_revision;
        seen_since_us_ = world_.timeline.now_us();
        return;
    }
    if (key && world_.timeline.now_us() - seen_since_us_ < ttl_us) return;
    leadership_ = store_.next_revision();
    key = {leadership_, leadership_};
    ++world_.result.elections;
    lead();
}

void SimController::lead() {
    dead_.clear();
    ++reign_;
    flush_pending_ = dying_ = carried_out_ = false;
    armed_us_ = INT64_MAX;
    const auto stored = store_.disk.snapshot();
    checker_.restarted(stored);
    auto made = controller::Engine::create(world_.timeline, *this, stored, {}, engine_options());
    if (made) {
        engine_ = std::move(*made);
        return arm();
    }
    // A store that takes nothing when it starts keeps it from starting; everything else must not.
    const auto code = made.error().code();
    world_.check(code == Errc::no_space || code == Errc::unavailable || dying_,
                 "the controller does not start: {}", made.error().message());
    if (alone())
        world_.timeline.after(500'000, [this, run = run_] {
            if (run == run_) lead();
        });
}

// Not from inside of the engine. Where the leader's key is still ours it loads everything anew.
void SimController::step_down(const std::string& why) {
    if (!store_.is_led_by(leadership_)) leadership_ = seen_ = 0;
    if (!engine_) return;
    ++reign_;
    engine_->abandon(Error(Errc::unavailable, why));
    dead_.push_back(std::move(engine_));
    network_.controller_died(std::exchange(connections_, {}));
}

void SimController::step_down_soon(const std::string& why) {
    dying_ = true;
    world_.timeline.after(0, [this, run = run_, reign = reign_, why] {
        if (run == run_ && reign == reign_) step_down(why);
    });
}

// ---- storing

Result<> SimController::store(const pool::Outcome& outcome) {
    if (world_.timeline.now_us() < full_until_us_) return fail(Errc::no_space, "the disk is full");
    if (!alone()) TRY(store_where_it_leads(outcome));
    if (engine_ && world_.fault(Fault::controller_crash, 30)) {
        // It dies in the middle: what it wrote may be there or not, and nobody hears of it.
        const bool written = world_.random.chance(500'000);
        store_.disk.apply(outcome);
        if (written) {
            store_.disk.sync();
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
        store_.disk.write_through(outcome);
        return {};
    }
    store_.disk.apply(outcome);
    world_.timeline.after(lazy_sync_us, [this, run = run_] {
        if (run == run_) store_.disk.sync();
    });
    return {};
}

// Whether a transaction may be carried out, by what etcd compares; an answer that is lost says nothing.
Result<> SimController::store_where_it_leads(const pool::Outcome& outcome) {
    const bool compared = !world_.without(Protection::store_fencing);
    const bool ours = store_.is_led_by(leadership_);
    if (is_cut_off_from_store()) {
        // The transaction may have got there, and only its answer not.
        if (ours && engine_ && !carried_out_ && world_.random.chance(300'000)) {
            carried_out_ = true;
            store_.disk.write_through(outcome);
            checker_.committed(outcome);
            world_.timeline.after(0, [this, outcome] { committed_(outcome); });
        }
        return fail(Errc::unavailable, "no member of etcd has answered");
    }
    if (carried_out_) {
        step_down_soon("a transaction whose answer was lost has been carried out");
        return fail(Errc::cancelled, "the records have to be loaded anew");
    }
    if (!ours && compared) {
        world_.count(Fault::write_of_old_leader);
        step_down_soon("another controller has been elected");
        return fail(Errc::cancelled, "another controller has been elected");
    }
    world_.check(ours, "a write under leadership {} is accepted, and {} leads", leadership_,
                 store_.leader ? store_.leader->create_revision : 0);
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
        world_.timeline.after(group_us, [this, run = run_, reign = reign_] {
            if (run != run_) return;
            when_running([this, reign] {
                if (reign != reign_) return;
                flush_pending_ = false;
                static_cast<void>(engine_->flush()); // who is concerned has been told
                arm();
            });
        });
    const int64_t next =
        std::chrono::duration_cast<std::chrono::microseconds>(engine_->next_tick().time_since_epoch())
            .count();
    if (next >= armed_us_ && armed_us_ > world_.timeline.now_us()) return;
    armed_us_ = next;
    world_.timeline.at(next, [this, run = run_, timer = ++timer_] {
        if (run != run_ || timer != timer_) return;
        when_running([this, timer] {
            if (timer != timer_ || !engine_) return;
            armed_us_ = INT64_MAX;
            engine_->tick();
            arm();
        });
    });
}

// ---- agents

void SimController::listen(std::shared_ptr<Connection> connection) {
    engine_->listen(*connection);
    connections_.push_back(std::move(connection));
}

void SimController::take(Connection& connection, const AgentMessage& message) {
    if (paused())
        return when_running([this, link = connection.shared_from_this(), message] { take(*link, message); });
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
    if (paused())
        return when_running([this, link = connection.shared_from_this(), why] { gone(*link, why); });
    if (!engine_ || dying_) return;
    engine_->gone(connection, why);
    std::erase_if(connections_, [&](const auto& each) { return each.get() == &connection; });
    arm();
}

} // namespace lanepool::sim
