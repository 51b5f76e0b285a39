// SPDX-License-Identifier: Apache-2.0
//
// Between the controller and the agents: connections that delay, lose, double and reorder what they carry,
// that break, and hosts that are cut off. Messages are the pool's own structs.
#pragma once

#include "controller/engine.h"
#include "pool/input.h"
#include "sim/world.h"

#include <functional>
#include <memory>
#include <variant>
#include <vector>

namespace lanepool::sim {

class SimAgent;
class SimController;
class Network;
using Controllers = std::vector<std::unique_ptr<SimController>>;

struct Heartbeat {};
using AgentMessage = std::variant<pool::Hello, pool::StepAnswer, pool::LoanLost, Heartbeat>;
using ControllerMessage = std::variant<std::vector<pool::Fdid>, pool::Order>;

// Each side takes it for open until it hears otherwise.
struct Connection final : controller::AgentLink, std::enable_shared_from_this<Connection> {
    Connection(Network& on, SimAgent& of, SimController& to) : network(on), agent(of), controller(to) {}
    void welcome(const std::vector<pool::Fdid>& fdids) override;
    void send(const pool::Order& order) override;
    void close(const Error& why) override;

    Network& network;
    SimAgent& agent;
    SimController& controller;
    bool open_at_agent = true;
    bool open_at_controller = false;
    int64_t last_up_us = 0; // when the last message that keeps its order arrives
    int64_t last_down_us = 0;
};

class Network {
  public:
    explicit Network(World& world) : world_(world) {}
    void set_controllers(const Controllers& controllers) { controllers_ = &controllers; }

    // Tries to connect AGENT, which goes on trying until it succeeds.
    void connect(SimAgent& agent);
    void up(Connection& connection, AgentMessage message);
    void down(Connection& connection, ControllerMessage message);
    // One side has closed it; the other hears of it later, or never.
    void closed_by_agent(Connection& connection);
    void closed_by_controller(Connection& connection, const std::string& why);
    // A controller is paused: its agents take it for dead after a while.
    void controller_paused(const std::vector<std::shared_ptr<Connection>>& connections);
    // A controller has died, and with it its sides of all connections.
    void controller_died(const std::vector<std::shared_ptr<Connection>>& connections);

    void cut_off(const SimAgent& agent, int64_t for_us);
    bool is_cut_off(const SimAgent& agent) const;
    void heal();

  private:
    // When a message arrives that is sent now; several times where it is doubled, never where it is lost.
    void carry(Connection& connection, int64_t& last_us, bool in_order,
               std::function<void(bool late)> deliver);
    int64_t latency_us();
    bool is_apart(const Connection& connection) const;

    World& world_;
    const Controllers* controllers_ = nullptr;
    std::vector<int64_t> cut_off_until_us_; // by partition
};

} // namespace lanepool::sim
