// SPDX-License-Identifier: Apache-2.0
#include "agent/run.h"

#include "agent/agent.h"
#include "io/signals.h"

#include <spdlog/spdlog.h>

namespace lanepool::agent {

Result<int> run_agent(const AgentOptions& options) {
    const auto loop = TRY(io::EventLoop::create());
    const auto signals =
        TRY(io::stop_on_signals(*loop)); // before any thread is started: they inherit the mask
    const auto agent = TRY(Agent::create(*loop, options));
    spdlog::info("agent of host {} started: {} devices to lend, {} guests", options.host,
                 options.devices.size(), options.guests.size());
    loop->run();
    return 0;
}

} // namespace lanepool::agent
