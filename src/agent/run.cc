// SPDX-License-Identifier: Apache-2.0
#include "agent/run.h"

#include "agent/agent.h"
#include "agent/machine_sources.h"
#include "agent/say_ready.h"
#include "io/signals.h"

#include <spdlog/spdlog.h>

namespace lanepool::agent {

Result<int> run_agent(const AgentOptions& options) {
    const auto loop = TRY(io::EventLoop::create());
    const auto signals =
        TRY(io::stop_on_signals(*loop)); // before any thread is started: they inherit the mask
    const auto sources = machine_sources(options.state);
    const auto agent = TRY(Agent::create(*loop, options, *sources));
    spdlog::info("agent of host {} started: adapter {}, {} devices to lend, {} guests", options.host,
                 options.adapter, options.devices.size(), options.guests.size());
    for (const auto& device : options.devices)
        spdlog::info("device {} is {}", device.name, device.place);
    for (const auto& guest : options.guests)
        spdlog::info("guest {} is {}", guest.name, guest.monitor.string());
    if (const auto told = say_ready(); !told) spdlog::warn("{}", told.error().message());
    loop->run();
    return 0;
}

} // namespace lanepool::agent
