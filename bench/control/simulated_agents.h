// SPDX-License-Identifier: Apache-2.0
//
// Many agents in one process: each says that it has devices, and answers every step well and at once, or
// after the time that hardware would take.
#pragma once

#include "api/client.h"

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace lanepool::bench {

class SimulatedAgent;

class SimulatedAgents {
  public:
    // Told of every step, on gRPC's threads.
    using OnStep = std::function<void(const v1::Step& step)>;

    SimulatedAgents(std::string endpoint, size_t hosts, size_t devices_per_host, OnStep on_step);
    ~SimulatedAgents();

    // Connects all of them, again after the controller has been away. Until each has had its welcome, for at
    // most TIMEOUT.
    Result<> connect(std::chrono::milliseconds timeout);

    static std::string host(size_t number) { return "h" + std::to_string(number); }
    static std::string device(size_t host_number, size_t number) {
        return host(host_number) + "/nvme" + std::to_string(number);
    }
    uint64_t steps() const { return steps_; }

  private:
    friend class SimulatedAgent;
    void beat();

    const std::string endpoint_;
    const size_t devices_per_host_;
    const OnStep on_step_;
    std::atomic<uint64_t> steps_{0};
    std::atomic<size_t> welcomed_{0};
    std::atomic<bool> stopping_{false};
    std::unique_ptr<api::Client> client_;
    std::vector<std::unique_ptr<SimulatedAgent>> agents_;
    std::thread heart_;
};

} // namespace lanepool::bench
