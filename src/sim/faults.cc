// SPDX-License-Identifier: Apache-2.0
#include "sim/faults.h"

namespace lanepool::sim {

void Faults::start() {
    if (world_.harshness == 0) return;
    const auto pause = static_cast<int64_t>(600'000 / world_.harshness);
    world_.timeline.after(world_.random.between(pause / 2, pause * 2), [this] {
        if (!world_.faults_on) return;
        strike();
        start();
    });
}

void Faults::strike() {
    const uint64_t what = world_.random.below(100);
    if (controllers_.size() > 1 && world_.random.chance(150'000))
        return strike_one_of_several(any_controller());
    if (what >= 92) return strike_controller(any_controller(), what);
    strike_host(*agents_[world_.random.below(agents_.size())], what);
}

void Faults::strike_host(SimAgent& agent, uint64_t what) {
    if (what < 20) {
        world_.count(Fault::connection_broken);
        return agent.break_connection();
    }
    if (what < 35) {
        world_.count(Fault::partition);
        // Short ones nobody notices, long ones outlast every patience.
        const int64_t longest = world_.random.chance(300'000) ? 90'000'000 : 8'000'000;
        return network_.cut_off(agent, world_.random.between(100'000, longest));
    }
    if (what < 60) {
        if (!agent.running()) return;
        const bool power = world_.random.chance(300'000);
        world_.count(power ? Fault::power_loss : Fault::agent_crash);
        agent.crash(power);
        const int64_t longest = world_.random.chance(200'000) ? 40'000'000 : 4'000'000;
        world_.timeline.after(world_.random.between(50'000, longest), [&agent] { agent.start(); });
        return;
    }
    if (what < 75) {
        const size_t devices = agent.devices().size();
        if (devices == 0) return agent.guest_dies();
        const int64_t longest = world_.random.chance(300'000) ? 30'000'000 : 3'000'000;
        return agent.device_falls_silent(world_.random.below(devices),
                                         world_.random.between(10'000, longest));
    }
    agent.guest_dies();
}

// Rather one that decides.
SimController& Faults::any_controller() {
    if (controllers_.size() == 1) return *controllers_.front();
    SimController* const one = any_serving(controllers_);
    if (one != nullptr && world_.random.chance(700'000)) return *one;
    return *controllers_[world_.random.below(controllers_.size())];
}

void Faults::strike_one_of_several(SimController& controller) {
    const int64_t for_us =
        world_.random.between(50'000, world_.random.chance(500'000) ? 12'000'000 : 2'000'000);
    switch (world_.random.below(3)) {
    case 0:
        world_.count(Fault::controller_paused);
        return controller.pause(for_us);
    case 1:
        world_.count(Fault::controller_without_store);
        return controller.cut_off_from_store(for_us);
    default:
        world_.count(Fault::controller_without_agents);
        return controller.cut_off_from_agents(for_us);
    }
}

void Faults::strike_controller(SimController& controller, uint64_t what) {
    if (what < 95) return controller.crash(world_.random.between(50'000, 4'000'000));
    if (what < 97) {
        world_.count(Fault::controller_disk_full);
        return controller.fill_disk(world_.random.between(1000, 1'000'000));
    }
    world_.count(Fault::time_of_day_set);
    world_.timeline.set_unix_offset_us(world_.timeline.unix_offset_us() +
                                       world_.random.between(-3'600'000'000, 3'600'000'000));
}

} // namespace lanepool::sim
