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
    Faults(World& world, Network& network, SimController& controller,
           const std::vector<std::unique_ptr<SimAgent>>& agents)
        : world_(world), network_(network), controller_(controller), agents_(agents) {}
    void start();

  private:
    void strike();
    void strike_host(SimAgent& agent, uint64_t what);
    void strike_controller(uint64_t what);

    World& world_;
    Network& network_;
    SimController& controller_;
    const std::vector<std::unique_ptr<SimAgent>>& agents_;
};

} // namespace lanepool::sim
