// SPDX-License-Identifier: Apache-2.0
#include "fabric/commands.h"

namespace lanepool::fabric {
namespace {

using admin::Json;

Result<unsigned> requested_port(const Switch& fabric, const Json& request) {
    const auto found = request.find("port");
    if (found == request.end() || !found->is_number_unsigned())
        return fail(Errc::invalid_argument, "\"port\" is missing or is not a number: name one of 0 to {}",
                    fabric.options().ports - 1);
    const auto port = found->get<uint64_t>();
    if (port >= fabric.options().ports)
        return fail(Errc::not_found, "there is no port {}: the switch has ports 0 to {}", port,
                    fabric.options().ports - 1);
    return static_cast<unsigned>(port);
}

Json port_json(const Port& port, bool plugged) {
    return {{"port", port.partition()},
            {"plugged", plugged},
            {"client", port.client() != nullptr},
            {"link_enabled", port.link_enabled()},
            {"link", port.link_up() ? "up" : "down"},
            {"bus_master", port.bus_master()},
            {"windows", port.control().windows().count()},
            {"dma_mappings", port.dma().count()}};
}

Json counters_json(const PortCounters& counters) {
    Json dropped = Json::object();
    for (size_t i = 0; i < obstacle_names.size(); ++i)
        dropped[std::string(obstacle_names[i])] = counters.dropped[i];
    return {{"register_reads", counters.register_reads},
            {"register_writes", counters.register_writes},
            {"config_accesses", counters.config_accesses},
            {"window_reads", counters.window_reads},
            {"window_writes", counters.window_writes},
            {"forwarded_reads", counters.forwarded_reads},
            {"forwarded_writes", counters.forwarded_writes},
            {"window_events", counters.window_events},
            {"window_lookups", counters.window_lookups},
            {"messages_sent", counters.messages_sent},
            {"messages_refused", counters.messages_refused},
            {"doorbells_rung", counters.doorbells_rung},
            {"interrupts", counters.interrupts},
            {"interrupts_lost", counters.interrupts_lost},
            {"dropped", std::move(dropped)}};
}

Json messages_json(const PortSockets::Messages& messages) {
    return {{"region_reads", messages.region_reads},
            {"region_writes", messages.region_writes},
            {"dma_reads", messages.dma_reads},
            {"dma_writes", messages.dma_writes},
            {"other", messages.other}};
}

// Adds up the numbers of objects that have the same members.
void add_numbers(Json& sum, const Json& part) {
    for (const auto& [key, value] : part.items()) {
        auto& member = sum.emplace(key, value.is_object() ? Json::object() : Json(uint64_t{0})).first.value();
        if (value.is_object())
            add_numbers(member, value);
        else
            member = member.get<uint64_t>() + value.get<uint64_t>();
    }
}

} // namespace

Result<Json> ports_command(Switch& fabric, const PortSockets& sockets) {
    Json ports = Json::array();
    for (unsigned i = 0; i < fabric.options().ports; ++i)
        ports.push_back(port_json(fabric.port(i), sockets.plugged(i)));
    return Json{{"ports", std::move(ports)}};
}

Result<Json> link_command(Switch& fabric, const Json& request) {
    const unsigned port = TRY(requested_port(fabric, request));
    const auto up = request.find("up");
    if (up == request.end() || !up->is_boolean())
        return fail(Errc::invalid_argument, "\"up\" is missing or is neither true nor false");
    fabric.port(port).enable_link(up->get<bool>());
    return Json{{"port", port}, {"link", fabric.port(port).link_up() ? "up" : "down"}};
}

Result<Json> plug_command(Switch& fabric, PortSockets& sockets, const Json& request, bool plug) {
    const unsigned port = TRY(requested_port(fabric, request));
    if (plug)
        TRY(sockets.plug(port));
    else
        sockets.unplug(port);
    return Json{{"port", port}, {"plugged", plug}};
}

Result<Json> stats_command(Switch& fabric, const PortSockets& sockets) {
    Json ports = Json::array();
    Json total = Json::object();
    for (unsigned i = 0; i < fabric.options().ports; ++i) {
        Json port = counters_json(fabric.port(i).counters());
        port["messages"] = messages_json(sockets.messages(i));
        add_numbers(total, port);
        port["port"] = i;
        ports.push_back(std::move(port));
    }
    return Json{{"total", std::move(total)}, {"ports", std::move(ports)}};
}

void add_commands(admin::Server& server, Switch& fabric, PortSockets& sockets) {
    server.add("ports", [&](const Json&) { return ports_command(fabric, sockets); });
    server.add("link", [&](const Json& request) { return link_command(fabric, request); });
    server.add("unplug", [&](const Json& request) { return plug_command(fabric, sockets, request, false); });
    server.add("plug", [&](const Json& request) { return plug_command(fabric, sockets, request, true); });
    server.add("stats", [&](const Json&) { return stats_command(fabric, sockets); });
}

} // namespace lanepool::fabric
