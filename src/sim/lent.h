// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/fence.h"
#include "sim/checker.h"
#include "sim/device.h"

#include <deque>
#include <functional>
#include <optional>
#include <unordered_map>

namespace lanepool::sim {

// One device of a simulated host: the real fence, on a simulated device and disk; what
// src/agent/lent_device.cc is in a real agent.
class Lent final : private agent::FencePorts, private agent::HostPorts {
  public:
    struct Events {
        std::function<void(const pool::Step& step, Result<> result)> answer;
        std::function<void(const agent::Opening& opening, const std::string& reason)> lost;
        std::function<void()> changed;
        // How many SR-IOV functions it has, and that it is to have so many.
        std::function<uint32_t()> functions;
        std::function<Result<>(uint32_t count)> make_functions;
    };
    Lent(World& world, Checker& checker, SimDevice& device, Events events);

    // The agent is started: it reads its disk, and finds the device after a while.
    void start();
    void stop();
    void set_fdid(pool::Fdid fdid);
    void perform(const pool::Order& order);
    void device_went();
    void device_came();
    // An SR-IOV function that comes or goes. LOCAL: its host has it, else its agent has taken it already.
    void appear(bool local);
    void vanish();

    bool identified() const { return identified_; }
    pool::Fdid fdid() const { return fdid_; }
    SimDevice& device() { return device_; }
    agent::FenceObservation observed() const { return fence_->observed(); }

  private:
    Result<> store(const agent::DeviceRecord& record) override;
    void open(uint64_t operation, const agent::Opening& opening) override;
    void expel(uint64_t operation, const agent::Opening& opening) override;
    void close(uint64_t operation, pool::Epoch epoch) override;
    void reset(uint64_t operation) override;
    void sanitize(uint64_t operation, int64_t limit_us) override;
    void answer(const pool::Order& order, Result<> result) override;
    void lost(const agent::Opening& opening, const std::string& reason) override;
    void changed() override { events_.changed(); }
    SimDevice::Done end_of(uint64_t operation);
    // ---- own_host.cc
    bool is_home() const;
    agent::HostPorts* host_ports();
    void take(uint64_t operation, int64_t limit_us) override;
    void give_back(uint64_t operation, int64_t limit_us) override;
    void set_functions(uint64_t operation, uint32_t functions, int64_t limit_us) override;
    void ask_host(uint64_t operation, int64_t limit_us, int64_t delay_us, std::function<Result<>()> effect);
    void present_if_possible();
    void arm();
    void lose_unsynced();

    World& world_;
    Checker& checker_;
    SimDevice& device_;
    const Events events_;
    std::optional<agent::LenderFence> fence_;
    agent::DeviceRecord disk_;
    std::optional<agent::DeviceRecord> unsynced_; // where write-ordering is off
    pool::Fdid fdid_;
    bool reached_ = false;
    bool identified_ = false;
    bool present_ = false;
    uint64_t run_ = 0;
    uint64_t reach_ = 0;
    uint64_t timer_ = 0;
    std::optional<int64_t> armed_us_;
    // Where epochs are not checked: those that prepares came with, by loan, and steps as they came, by id.
    std::unordered_map<uint64_t, pool::Epoch> asked_;
    std::unordered_map<uint64_t, pool::Step> asked_steps_;
};

} // namespace lanepool::sim
