// SPDX-License-Identifier: Apache-2.0
#include "share/pacer.h"

#include <algorithm>
#include <cmath>

namespace lanepool::sharing {

namespace {
// Of nothing that a client says more is believed: no drive does as many units in one interval.
constexpr uint64_t max_step_units = uint64_t{1} << 32;
// How far ahead of the slowest one may be: as much as the drive does in this time, so that short pauses of a
// client, or of who computes this, idle nobody. It is longer on a machine on which this is called late.
constexpr double least_window_seconds = 0.012;
constexpr double most_window_seconds = 0.1;
constexpr double window_ticks = 3; // of the slowest that were seen lately
constexpr double slowness_smoothing = 1.0 / 256;
constexpr double min_window_units = 1024;
// Who has wanted nothing for so many ticks counts no more among those who share.
constexpr unsigned ticks_to_idle = 8;
// Rates are smoothed over about as many ticks.
constexpr double smoothing = 1.0 / 4;
constexpr double shown_smoothing = 1.0 / 100;

constexpr double measure_seconds = 0.004;
constexpr double capacity_smoothing = 1.0 / 4;
constexpr double slow_capacity_smoothing = 1.0 / 32;
constexpr double hardly_pushed = 0.3; // of the capacity: V waits
// The total that is aimed at while V runs by itself, of the capacity; and how soon.
constexpr double aim = 0.96;
constexpr double reaction_seconds = 0.008;
// After so many windows one is for letting the drive do more, one for seeing whether it does, and some for
// what has queued up in it.
constexpr unsigned steady_windows = 32;
constexpr unsigned draining_windows = 4;
constexpr double probing_aim = 1.5;
constexpr double draining_aim = 0.85;
constexpr double worth_more = 1.1; // look again at once

uint64_t step(uint64_t before, uint64_t now) {
    return now >= before ? std::min(now - before, max_step_units) : 0;
}
} // namespace

void Pacer::add(uint32_t slot, unsigned weight, const Counters& counters) {
    Client client;
    client.weight = std::clamp(weight, 1u, max_weight);
    client.counters = counters;
    client.service = virtual_time_;
    client.idle_ticks = ticks_to_idle;
    clients_[slot] = client;
}

void Pacer::remove(uint32_t slot) { clients_.erase(slot); }

void Pacer::update(uint32_t slot, const Counters& counters) {
    const auto found = clients_.find(slot);
    if (found == clients_.end()) return;
    auto& client = found->second;
    client.submitted = step(client.counters.submitted, counters.submitted);
    client.completed = step(client.counters.completed, counters.completed);
    client.held = counters.held != client.counters.held;
    client.active = client.submitted > 0 || client.held || counters.completed != counters.submitted;
    client.counters = counters;
}

void Pacer::observe(Client& client) {
    // Who begins again begins where the others are.
    if (client.idle_ticks > 0) client.service = std::max(client.service, virtual_time_);
    client.service += static_cast<double>(client.submitted) / client.weight;
    if (client.active)
        client.idle_ticks = 0;
    else
        client.idle_ticks = std::min(client.idle_ticks + 1, ticks_to_idle);
    window_units_ += client.completed;
}

void Pacer::measure(double seconds) {
    window_seconds_ += seconds;
    const auto count = [this](auto member) {
        return std::ranges::count_if(clients_, [member](const auto& entry) { return entry.second.*member; });
    };
    if (count(&Client::held) > 0) window_held_seconds_ += seconds;
    if (count(&Client::active) > 1) window_shared_seconds_ += seconds;
    if (window_seconds_ < measure_seconds) return;
    const double measured = static_cast<double>(window_units_) / window_seconds_;
    const bool held = window_held_seconds_ > window_seconds_ / 2;
    const bool found_more = phase_ == Phase::probing && measured > capacity_ * worth_more;
    // Less than before says something only where several wanted more and nobody was held, or where V waits
    // for who lags: then everybody is served as fast as possible. The latter is followed slowly, in both
    // directions: on a busy machine the peaks are not what the drive can do.
    const bool all_was_let = !held && window_shared_seconds_ == window_seconds_;
    if (found_more || capacity_ == 0)
        capacity_ = measured;
    else if (phase_ == Phase::probing || all_was_let)
        capacity_ += (measured - capacity_) * capacity_smoothing;
    else if (held && (measured > capacity_ || pushed_ < capacity_ * hardly_pushed))
        capacity_ += (measured - capacity_) * slow_capacity_smoothing;
    ++windows_;
    if (held || phase_ != Phase::steady) next_phase(found_more);
    window_seconds_ = window_held_seconds_ = window_shared_seconds_ = 0;
    window_units_ = 0;
}

void Pacer::next_phase(bool found_more) {
    const Phase before = phase_;
    switch (phase_) {
    case Phase::steady:
        if (windows_ >= steady_windows) phase_ = Phase::ramping;
        break;
    case Phase::ramping:
        phase_ = Phase::probing;
        break;
    case Phase::probing:
        phase_ = found_more ? Phase::ramping : Phase::draining;
        break;
    case Phase::draining:
        if (windows_ >= draining_windows) phase_ = Phase::steady;
        break;
    }
    if (phase_ != before) windows_ = 0;
}

// V, from what the clients have been served.
void Pacer::advance(double seconds, double window) {
    double least = INFINITY;
    double held_weight = 0;
    double held_rate = 0;
    for (const auto& [slot, client] : clients_) {
        if (client.active) least = std::min(least, client.service);
        if (!client.held) continue;
        held_weight += client.weight;
        held_rate += client.rate;
    }
    if (held_weight > 0) {
        const double target = capacity_ * (phase_ == Phase::steady     ? aim
                                           : phase_ == Phase::draining ? draining_aim
                                                                       : probing_aim);
        if (phase_ == Phase::steady || phase_ == Phase::draining)
            pushed_ = std::clamp(pushed_ + (target - rate_) * seconds / reaction_seconds, 0.0, target);
        double next = virtual_time_ + pushed_ / held_weight * seconds;
        if (phase_ == Phase::ramping || phase_ == Phase::probing) {
            next = virtual_time_ + std::max(0.0, target - rate_ + held_rate) / held_weight * seconds;
            // Where V waits for them, nobody loses more by this than can be made up for.
            if (pushed_ == 0) next = std::min(next, std::max(virtual_time_, least + window));
        }
        virtual_time_ = next;
    }
    if (std::isfinite(least)) virtual_time_ = std::max(virtual_time_, least);
}

void Pacer::allow(Client& client, double window) const {
    // What one has been late for longer than a window is forgotten.
    client.service = std::max(client.service, virtual_time_ - window);
    const double left = (virtual_time_ + window - client.service) * client.weight;
    client.allowance = client.counters.submitted + (left > 0 ? static_cast<uint64_t>(left) : 0);
}

void Pacer::tick(io::Duration elapsed) {
    const double seconds = std::chrono::duration<double>(elapsed).count();
    if (seconds <= 0 || clients_.empty()) return;
    double completed = 0;
    size_t sharing = 0;
    double weights = 0;
    for (auto& [slot, client] : clients_) {
        observe(client);
        const double rate = static_cast<double>(client.completed) / seconds;
        client.rate += (rate - client.rate) * smoothing;
        client.shown_rate += (rate - client.shown_rate) * shown_smoothing;
        completed += rate;
        if (client.idle_ticks >= ticks_to_idle) continue;
        ++sharing;
        weights += client.weight;
    }
    rate_ += (completed - rate_) * smoothing;
    shown_rate_ += (completed - shown_rate_) * shown_smoothing;
    measure(seconds);
    if (sharing <= 1) {
        pushed_ = 0;
        phase_ = Phase::steady;
        windows_ = 0;
    }
    slowest_ = std::max(slowest_ * (1 - slowness_smoothing), std::min(seconds, most_window_seconds));
    const double ahead_seconds =
        std::clamp(slowest_ * window_ticks, least_window_seconds, most_window_seconds);
    const double window = std::max(capacity_ * ahead_seconds, min_window_units) / std::max(weights, 1.0);
    advance(seconds, window);
    for (auto& [slot, client] : clients_) {
        if (sharing <= 1)
            client.allowance = no_limit;
        else
            allow(client, window);
        client.submitted = client.completed = 0;
        client.held = client.active = false;
    }
}

uint64_t Pacer::allowance(uint32_t slot) const {
    const auto found = clients_.find(slot);
    return found == clients_.end() ? no_limit : found->second.allowance;
}

double Pacer::rate(uint32_t slot) const {
    const auto found = clients_.find(slot);
    return found == clients_.end() ? 0 : found->second.shown_rate;
}

double Pacer::total_rate() const { return shown_rate_; }

} // namespace lanepool::sharing
