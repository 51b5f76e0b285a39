// SPDX-License-Identifier: Apache-2.0
#include "sim/lent.h"

#include <algorithm>

namespace lanepool::sim {

Lent::Lent(World& world, Checker& checker, SimDevice& device, Events events)
    : world_(world), checker_(checker), device_(device), events_(std::move(events)) {}

void Lent::start() {
    ++run_;
    identified_ = reached_ = present_ = false;
    fdid_ = {};
    lose_unsynced();
    checker_.agent_record(device_, disk_.epoch);
    fence_.emplace(device_.name(), disk_, static_cast<agent::FencePorts&>(*this), host_ports());
    armed_us_.reset();
    if (!device_.there()) return;
    // The adapter begins with empty tables; the device may be reached before that.
    world_.timeline.after(world_.random.between(1000, 60'000), [this, run = run_] {
        if (run == run_ && !present_) device_.close_all();
    });
    device_came();
}

void Lent::stop() {
    ++run_;
    fence_.reset();
    device_.forget_operations();
}

void Lent::lose_unsynced() {
    if (!unsynced_) return;
    world_.count(Fault::unsynced_write_lost);
    unsynced_.reset();
}

void Lent::device_came() {
    if (!device_.there()) return;
    const uint64_t reach = ++reach_;
    world_.timeline.at(std::max(world_.timeline.now_us() + 20'000, device_.silent_until_us()),
                       [this, run = run_, reach] {
                           if (run != run_ || reach != reach_) return;
                           if (device_.silent()) return device_came();
                           const bool first = !std::exchange(identified_, true);
                           reached_ = true;
                           present_if_possible();
                           if (first || present_) events_.changed();
                       });
}

// What serves the loan ends with the function that it serves, and with it every way.
void Lent::device_went() {
    if (!fence_ || !device_.there()) return;
    ++reach_;
    reached_ = false;
    if (std::exchange(present_, false)) {
        device_.forget_operations();
        device_.close_all();
        fence_->absent("the device has stopped answering");
        arm();
    }
    events_.changed();
    device_came();
}

void Lent::set_fdid(pool::Fdid fdid) {
    if (fdid_ == fdid) return;
    fdid_ = fdid;
    present_if_possible();
}

void Lent::present_if_possible() {
    if (present_ || !reached_) return;
    if (is_home()) {
        fence_->local(world_.timeline.now_us());
        return arm();
    }
    if (!fdid_) return;
    present_ = true;
    fence_->present(!device_.windows().empty());
    arm();
}

void Lent::perform(const pool::Order& order) {
    if (!world_.without(Protection::epoch_check)) {
        fence_->perform(order, world_.timeline.now_us());
        return arm();
    }
    // Nothing looks old to a fence that is told so.
    pool::Order lifted = order;
    asked_steps_[order.step.id.value] = order.step;
    const uint64_t seen = fence_->record().epoch;
    const auto openings = fence_->openings();
    const bool again = std::any_of(openings.begin(), openings.end(),
                                   [&](const auto& opening) { return opening.loan == order.step.loan; });
    const bool joins = order.shared && !openings.empty() && openings.front().shared;
    if (order.step.kind == pool::StepKind::prepare && !again) {
        asked_[order.step.loan.value] = order.step.epoch;
        lifted.step.epoch = {std::max(order.step.epoch.value, seen + (joins ? 0 : 1))};
    } else {
        lifted.step.epoch = {std::max(order.step.epoch.value, seen)};
    }
    fence_->perform(lifted, world_.timeline.now_us());
    arm();
}

// ---- what the fence asks for

Result<> Lent::store(const agent::DeviceRecord& record) {
    if (world_.fault(Fault::agent_disk_full, 500))
        return fail(Errc::no_space, "the disk of host {} is full", device_.host());
    if (!world_.without(Protection::write_ordering)) {
        disk_ = record;
        checker_.agent_record(device_, record.epoch);
        return {};
    }
    unsynced_ = record;
    world_.timeline.after(30'000, [this, run = run_] {
        if (run != run_ || !unsynced_) return;
        disk_ = *unsynced_;
        unsynced_.reset();
        checker_.agent_record(device_, disk_.epoch);
    });
    return {};
}

void Lent::open(uint64_t operation, const agent::Opening& opening) {
    agent::Opening asked = opening;
    if (const auto epoch = asked_.find(opening.loan.value); epoch != asked_.end())
        asked.epoch = epoch->second;
    device_.open(asked, end_of(operation));
}

void Lent::expel(uint64_t operation, const agent::Opening& opening) {
    device_.expel(opening.loan, end_of(operation));
}

void Lent::close(uint64_t operation, pool::Epoch) { device_.close(end_of(operation)); }
void Lent::reset(uint64_t operation) { device_.reset(end_of(operation)); }
void Lent::sanitize(uint64_t operation, int64_t limit_us) { device_.sanitize(limit_us, end_of(operation)); }

void Lent::answer(const pool::Order& order, Result<> result) {
    const auto asked = asked_steps_.extract(order.step.id.value);
    events_.answer(asked.empty() ? order.step : asked.mapped(), std::move(result));
}

void Lent::lost(const agent::Opening& opening, const std::string& reason) { events_.lost(opening, reason); }

SimDevice::Done Lent::end_of(uint64_t operation) {
    return [this, run = run_, operation](Result<> result) {
        if (run != run_) return;
        fence_->finished(operation, std::move(result), world_.timeline.now_us());
        arm();
    };
}

void Lent::arm() {
    const auto next = fence_->next_tick_us();
    if (!next || (armed_us_ && *armed_us_ <= *next && *armed_us_ > world_.timeline.now_us())) return;
    armed_us_ = next;
    world_.timeline.at(*next, [this, run = run_, timer = ++timer_] {
        if (run != run_ || timer != timer_) return;
        armed_us_.reset();
        fence_->tick(world_.timeline.now_us());
        arm();
    });
}

} // namespace lanepool::sim
