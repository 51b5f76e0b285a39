// SPDX-License-Identifier: Apache-2.0
#include "sim/network.h"

#include "sim/agent.h"
#include "sim/controller.h"

namespace lanepool::sim {

namespace {
constexpr int64_t retry_us = 300'000;
// How long an end that hears nothing waits before it takes the other one for dead.
constexpr int64_t silence_us = 3'000'000;
} // namespace

void Connection::welcome(const std::vector<pool::Fdid>& fdids) { network.down(*this, fdids); }
void Connection::send(const pool::Order& order) { network.down(*this, order); }
void Connection::close(const Error& why) { network.closed_by_controller(*this, why.message()); }

int64_t Network::latency_us() { return world_.random.between(50, 400); }

bool Network::is_cut_off(const SimAgent& agent) const {
    return agent.partition() < cut_off_until_us_.size() &&
           cut_off_until_us_[agent.partition()] > world_.timeline.now_us();
}

void Network::cut_off(const SimAgent& agent, int64_t for_us) {
    if (agent.partition() >= cut_off_until_us_.size()) cut_off_until_us_.resize(agent.partition() + 1);
    cut_off_until_us_[agent.partition()] = world_.timeline.now_us() + for_us;
}

void Network::heal() { cut_off_until_us_.clear(); }

bool Network::is_apart(const Connection& connection) const {
    return is_cut_off(connection.agent) || connection.controller.is_cut_off_from_agents();
}

void Network::connect(SimAgent& agent) {
    SimController* const controller = any_serving(*controllers_, agent.partition());
    if (is_cut_off(agent) || controller == nullptr) {
        agent.later(retry_us + latency_us(), [this, &agent] {
            if (!agent.connection()) connect(agent);
        });
        return;
    }
    auto connection = std::make_shared<Connection>(*this, agent, *controller);
    connection->open_at_controller = true;
    controller->listen(connection);
    agent.connected(std::move(connection));
}

void Network::carry(Connection& connection, int64_t& last_us, bool in_order,
                    std::function<void(bool)> deliver) {
    const int64_t now = world_.timeline.now_us();
    if (is_apart(connection) || world_.fault(Fault::message_lost, 300)) {
        // What carries the messages notices in the end, on one side at least.
        world_.timeline.after(world_.random.between(10'000, 3'000'000),
                              [link = connection.shared_from_this()] {
                                  if (link->open_at_agent) link->agent.break_connection();
                              });
        return;
    }
    int64_t arrival = now + latency_us();
    if (!in_order && world_.fault(Fault::message_overtaken, 2000))
        arrival += world_.random.between(1000, 100'000);
    else
        arrival = last_us = std::max(arrival, last_us);
    if (!in_order && world_.fault(Fault::message_doubled, 2000))
        world_.timeline.at(arrival + world_.random.between(0, 50'000), [deliver] { deliver(false); });
    if (!in_order && world_.fault(Fault::message_late, 2000))
        world_.timeline.at(arrival + world_.random.between(500'000, 30'000'000),
                           [deliver] { deliver(true); });
    world_.timeline.at(arrival, [deliver = std::move(deliver)] { deliver(false); });
}

void Network::up(Connection& connection, AgentMessage message) {
    if (!connection.open_at_agent) return;
    // Of two Hellos the later one counts: they rely on the order that a stream keeps.
    const bool in_order = std::holds_alternative<pool::Hello>(message);
    carry(connection, connection.last_up_us, in_order,
          [link = connection.shared_from_this(), message = std::move(message)](bool late) {
              // A message that is late comes over whatever connection there is then.
              Connection* to = link.get();
              if (late && link->agent.connection()) to = link->agent.connection().get();
              if (to->open_at_controller) to->controller.take(*to, message);
          });
}

void Network::down(Connection& connection, ControllerMessage message) {
    if (!connection.open_at_controller) return;
    carry(connection, connection.last_down_us, false,
          [link = connection.shared_from_this(), message = std::move(message)](bool late) {
              if (!link->agent.running() || (!link->open_at_agent && !late)) return;
              if (const auto* order = std::get_if<pool::Order>(&message))
                  link->agent.perform(*order);
              else if (!late)
                  link->agent.welcomed(std::get<std::vector<pool::Fdid>>(message));
          });
}

void Network::closed_by_agent(Connection& connection) {
    connection.open_at_agent = false;
    if (is_apart(connection)) return; // the controller hears nothing, and notices that
    world_.timeline.after(latency_us(), [link = connection.shared_from_this()] {
        if (std::exchange(link->open_at_controller, false))
            link->controller.gone(*link, "it has closed its connection");
    });
}

void Network::closed_by_controller(Connection& connection, const std::string& why) {
    if (!std::exchange(connection.open_at_controller, false)) return;
    auto link = connection.shared_from_this();
    world_.timeline.after(0, [link, why] { link->controller.gone(*link, why); });
    world_.timeline.after(is_apart(connection) ? silence_us : latency_us(),
                          [link] { link->agent.disconnected(*link); });
}

void Network::controller_paused(const std::vector<std::shared_ptr<Connection>>& connections) {
    for (const auto& link : connections)
        world_.timeline.after(silence_us, [link] {
            if (link->controller.paused()) link->agent.disconnected(*link);
        });
}

void Network::controller_died(const std::vector<std::shared_ptr<Connection>>& connections) {
    for (const auto& link : connections) {
        link->open_at_controller = false;
        world_.timeline.after(is_apart(*link) ? silence_us : latency_us(),
                              [link] { link->agent.disconnected(*link); });
    }
}

} // namespace lanepool::sim
