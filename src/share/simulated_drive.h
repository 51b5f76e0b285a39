// SPDX-License-Identifier: Apache-2.0
//
// For tests: a drive and closed-loop clients in simulated time. The drive does so many commands at a time,
// each for a fixed time, and takes the next one from one queue of all (so that who has more in it gets more:
// the worst case) or from the clients' queues in turn.
#pragma once

#include "share/gate.h"
#include "share/pacer.h"

#include <deque>
#include <functional>
#include <random>
#include <vector>

namespace lanepool::sharing {

struct SimulatedClient {
    unsigned weight = 1;
    unsigned depth = 32;   // commands in flight, always as many as it may
    uint64_t units = 1;    // of a command
    uint64_t pause_us = 0; // after each answer, before the next command takes its place
    std::function<bool(uint64_t now_us)> wants = {}; // none: always
};

class SimulatedDrive {
  public:
    struct Options {
        unsigned at_a_time = 8;
        double unit_us = 20; // of one command's unit
        bool round_robin = false;
        bool paced = true;
        uint64_t tick_us = 1000;
        unsigned tick_jitter_us = 0; // a tick comes late by up to this
        unsigned stalls = 0;         // of 1000: how often a millisecond of the drive is lost
    };

    SimulatedDrive(Options options, std::vector<SimulatedClient> clients)
        : options_(options), busy_(options.at_a_time) {
        for (auto& client : clients)
            states_.push_back({std::move(client)});
        queues_.resize(states_.size());
        for (uint32_t i = 0; i < states_.size(); ++i)
            pacer_.add(i, states_[i].client.weight, {});
        next_tick_ = options_.tick_us;
    }

    // Runs on for so long; what each client was answered in that time, in units.
    std::vector<double> run(uint64_t us) {
        std::vector<uint64_t> before;
        for (const auto& state : states_)
            before.push_back(state.counters.completed);
        for (const uint64_t end = now_us_ + us; now_us_ < end; ++now_us_)
            step();
        std::vector<double> served;
        for (size_t i = 0; i < states_.size(); ++i)
            served.push_back(static_cast<double>(states_[i].counters.completed - before[i]));
        return served;
    }
    Pacer& pacer() { return pacer_; }
    void set_unit_us(double unit_us) { options_.unit_us = unit_us; }

  private:
    struct State {
        SimulatedClient client;
        Pacer::Counters counters{};
        Gate gate{};
        unsigned in_flight = 0;
        std::deque<uint64_t> pausing{}; // when each pause ends
    };
    struct Work {
        size_t client = 0;
        double done_us = 0;
        bool running = false;
    };

    io::TimePoint time() const { return io::TimePoint(std::chrono::microseconds(now_us_)); }

    void step() {
        if (options_.stalls > 0 && now_us_ % 1000 == 0) stalled_ = random_() % 1000 < options_.stalls;
        for (auto& work : busy_)
            if (work.running && work.done_us <= static_cast<double>(now_us_)) answer(work);
        for (size_t i = 0; i < states_.size(); ++i)
            submit(i);
        for (auto& work : busy_)
            if (!work.running && !stalled_) begin(work);
        if (now_us_ >= next_tick_) tick();
    }
    void answer(Work& work) {
        auto& state = states_[work.client];
        work.running = false;
        state.counters.completed += state.client.units;
        if (state.client.pause_us == 0)
            --state.in_flight;
        else
            state.pausing.push_back(now_us_ + state.client.pause_us);
    }
    void submit(size_t index) {
        auto& state = states_[index];
        while (!state.pausing.empty() && state.pausing.front() <= now_us_) {
            state.pausing.pop_front();
            --state.in_flight;
        }
        if (state.client.wants && !state.client.wants(now_us_)) return;
        while (state.in_flight < state.client.depth) {
            if (options_.paced && state.gate.limited() &&
                state.counters.submitted >= state.gate.allowed(time())) {
                ++state.counters.held;
                return;
            }
            state.counters.submitted += state.client.units;
            ++state.in_flight;
            (options_.round_robin ? queues_[index] : queues_[0]).push_back(index);
        }
    }
    void begin(Work& work) {
        for (size_t i = 0; i < queues_.size(); ++i) {
            auto& queue = queues_[(turn_ + i) % queues_.size()];
            if (queue.empty()) continue;
            turn_ = (turn_ + i + 1) % queues_.size();
            const size_t index = queue.front();
            queue.pop_front();
            // From when the one before was done, so that steps of a microsecond lose nothing.
            const double from = std::max(work.done_us, static_cast<double>(now_us_) - 1);
            work = {index, from + options_.unit_us * static_cast<double>(states_[index].client.units), true};
            return;
        }
    }
    void tick() {
        const io::Duration elapsed = std::chrono::microseconds(now_us_ - last_tick_);
        for (uint32_t i = 0; i < states_.size(); ++i)
            pacer_.update(i, states_[i].counters);
        pacer_.tick(elapsed);
        for (uint32_t i = 0; i < states_.size(); ++i)
            states_[i].gate.open(pacer_.allowance(i), time());
        last_tick_ = now_us_;
        next_tick_ = now_us_ + options_.tick_us;
        if (options_.tick_jitter_us > 0) next_tick_ += random_() % options_.tick_jitter_us;
    }

    Options options_;
    std::vector<State> states_;
    std::vector<std::deque<size_t>> queues_;
    std::vector<Work> busy_;
    size_t turn_ = 0;
    Pacer pacer_;
    uint64_t now_us_ = 0;
    uint64_t last_tick_ = 0;
    uint64_t next_tick_ = 0;
    bool stalled_ = false;
    std::mt19937 random_{7};
};

} // namespace lanepool::sharing
