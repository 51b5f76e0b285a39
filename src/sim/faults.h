// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "sim/agent.h"
#include "sim/controller.h"
#include "sim/network.h"

#include <memory>
#include <vector>

namespace lanepool::sim {

// What happens to hosts, devices and the controller from outside, from time to time.
class Faults {
  public:
    Faults(World& world, Network& network, const Controllers& controllers,
           const std::vector<std::unique_ptr<SimAgent>>& agents)
        : world_(world), network_(network), controllers_(controllers), agents_(agents) {}
    void start();

  private:
    void strike();
    void strike_host(SimAgent& agent, uint64_t what);
    void strike_controller(SimController& controller, uint64_t what);
    SimController& any_controller();
    void strike_one_of_several(SimController& controller);

    World& world_;
    Network& network_;
    const Controllers& controllers_;
    const std::vector<std::unique_ptr<SimAgent>>& agents_;
};

} // namespace lanepool::sim
