// SPDX-License-Identifier: Apache-2.0
#include "inventory/paths.h"

#include "pci/address.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace lanepool::inventory {

namespace {

constexpr std::array bit_names{"SV", "TB", "RR", "CR", "UF", "EC", "DT"};
constexpr uint16_t redirecting = acs::request_redirect | acs::completion_redirect | acs::egress_control;
constexpr uint16_t isolating =
    acs::source_validation | acs::request_redirect | acs::completion_redirect | acs::upstream_forwarding;

bool redirects(const Function& function) {
    return function.acs && (function.acs->control & redirecting) != 0;
}

// Whether what ACS could be said of the function is known.
bool knows_acs(const Function& function) { return function.config_complete && !function.config_broken; }

// Whether ACS of the function could matter to what passes it.
bool could_redirect(const Function& function) {
    return function.multi_function || (function.bridge && function.type != FunctionType::upstream_port);
}

bool leads_down(const Function& function) {
    return function.type == FunctionType::root_port || function.type == FunctionType::downstream_port;
}

bool is_conventional(const Function& function) {
    return function.type == FunctionType::conventional || function.type == FunctionType::pcie_to_pci_bridge;
}

// What is capable of it does it (drivers/pci/pci.c of Linux, pci_acs_flags_enabled).
bool isolates(const Acs& acs) {
    const auto wanted = static_cast<uint16_t>(acs.capabilities & isolating);
    return (acs.control & wanted) == wanted;
}

// The gap at one place of the way up; absent: there is none.
std::optional<IsolationGap> gap_at(const Function& function, bool is_below) {
    const auto text = pci::to_string(function.address);
    if (function.type == FunctionType::other && !function.config_complete)
        return IsolationGap{function.address, false,
                            fmt::format("whether {} separates what is below it could not be read", text)};
    if (is_conventional(function)) {
        // What counts of a function itself is whether others of its device can be reached past the bridges.
        if (is_below && !function.multi_function) return std::nullopt;
        return IsolationGap{function.address, true,
                            fmt::format("{} is conventional PCI, which separates nothing", text)};
    }
    const bool counts = leads_down(function) || function.multi_function;
    if (!counts) return std::nullopt;
    const char* what = leads_down(function) ? "port" : "function";
    if (function.acs && isolates(*function.acs)) return std::nullopt;
    if (function.acs)
        return IsolationGap{
            function.address, true,
            fmt::format("{} {} has ACS, but not all of it is on ({})", what, text, acs_text(*function.acs))};
    if (!knows_acs(function))
        return IsolationGap{function.address, false,
                            fmt::format("the ACS of {} {} could not be read", what, text)};
    return IsolationGap{function.address, true, fmt::format("{} {} has no ACS", what, text)};
}

const Function* common_bridge(const std::vector<const Function*>& first,
                              const std::vector<const Function*>& second) {
    for (const auto* each : first)
        if (std::ranges::find(second, each) != second.end()) return each;
    return nullptr;
}

PeerRoute through_root_complex(const Machine& machine, const Function& from, const Function& to) {
    PeerRoute route;
    const auto first = socket_of(machine, from), second = socket_of(machine, to);
    if (first && second && *first != *second) {
        route.path = PeerPath::between_sockets;
        route.reason = fmt::format("they are at sockets {} and {}: packets cross the link between processors",
                                   *first, *second);
    } else if ((first && second) || machine.host.numa_nodes == 1) {
        route.path = PeerPath::root_complex;
        route.reason = "they have no bridge in common: packets go through the root complex";
    } else {
        route.reason = "they have no bridge in common, and the machine does not say at which socket each is";
    }
    return route;
}

} // namespace

std::string acs_text(const Acs& acs) {
    std::string text;
    for (size_t bit = 0; bit < bit_names.size(); ++bit)
        if ((acs.capabilities >> bit & 1) != 0)
            text += fmt::format("{}{}{}", text.empty() ? "" : " ", bit_names[bit],
                                (acs.control >> bit & 1) != 0 ? '+' : '-');
    return text.empty() ? "no bit of it" : text;
}

std::string_view name(PeerPath path) {
    switch (path) {
    case PeerPath::same_switch:
        return "same_switch";
    case PeerPath::redirected:
        return "redirected";
    case PeerPath::root_complex:
        return "root_complex";
    case PeerPath::between_sockets:
        return "between_sockets";
    case PeerPath::unknown:
        break;
    }
    return "unknown";
}

std::vector<const Function*> bridges_above(const Machine& machine, const Function& function) {
    std::vector<const Function*> bridges;
    const Function* next = function.upstream ? machine.find(*function.upstream) : nullptr;
    // There are at most 256 buses; a machine that was made up may have circles.
    while (next && bridges.size() < 256) {
        bridges.push_back(next);
        next = next->upstream ? machine.find(*next->upstream) : nullptr;
    }
    return bridges;
}

std::optional<unsigned> socket_of(const Machine& machine, const Function& function) {
    std::optional<int> node = function.numa_node;
    for (const auto* bridge : bridges_above(machine, function))
        if (!node) node = bridge->numa_node;
    if (machine.host.numa_nodes == 1) node = node.value_or(0);
    if (!node) return std::nullopt;
    const auto found = machine.host.node_packages.find(static_cast<unsigned>(*node));
    if (found != machine.host.node_packages.end()) return found->second;
    // Without topology a node is taken for a socket, which errs to the safe side.
    return static_cast<unsigned>(*node);
}

PeerRoute peer_route(const Machine& machine, const pci::Address& from, const pci::Address& to) {
    const auto* first = machine.find(from);
    const auto* second = machine.find(to);
    if (!first || !second) return {.reason = "one of them is not on this machine"};
    auto above = bridges_above(machine, *first);
    auto beyond = bridges_above(machine, *second);
    // One may itself be a bridge above the other.
    above.insert(above.begin(), first);
    beyond.insert(beyond.begin(), second);
    const auto* common = common_bridge(above, beyond);
    if (!common) return through_root_complex(machine, *first, *second);
    PeerRoute route;
    route.common = common->address;
    // As Linux does (drivers/pci/p2pdma.c, calc_map_type_and_dist), with the common bridge itself: it is on
    // the way where both are functions of one device, and harmless to count elsewhere: it is then no
    // downstream port.
    for (const auto& side : {above, beyond})
        for (const auto* each : side) {
            if (redirects(*each) &&
                std::ranges::find(route.redirects, each->address) == route.redirects.end())
                route.redirects.push_back(each->address);
            if (could_redirect(*each) && !knows_acs(*each)) route.acs_known = false;
            if (each == common) break;
        }
    if (!route.redirects.empty()) {
        std::vector<std::string> names;
        for (const auto& address : route.redirects)
            names.push_back(pci::to_string(address));
        route.path = PeerPath::redirected;
        route.reason = fmt::format("ACS of {} sends packets between them up to the root complex",
                                   fmt::join(names, ", "));
    } else if (!route.acs_known) {
        route.reason =
            fmt::format("they are both below {}, but ACS on the way could not be read: run it as root",
                        pci::to_string(common->address));
    } else {
        route.path = PeerPath::same_switch;
        route.reason = fmt::format("packets between them stay below {}", pci::to_string(common->address));
    }
    return route;
}

PeerPath peer_path(const Machine& machine, const pci::Address& from, const pci::Address& to) {
    return peer_route(machine, from, to).path;
}

std::vector<IsolationGap> isolation_gaps(const Machine& machine, const pci::Address& address) {
    std::vector<IsolationGap> gaps;
    const auto* function = machine.find(address);
    if (!function) return gaps;
    if (auto gap = gap_at(*function, true)) gaps.push_back(std::move(*gap));
    for (const auto* bridge : bridges_above(machine, *function))
        if (auto gap = gap_at(*bridge, false)) gaps.push_back(std::move(*gap));
    return gaps;
}

bool acs_isolated(const Machine& machine, const pci::Address& address) {
    return machine.find(address) && isolation_gaps(machine, address).empty();
}

} // namespace lanepool::inventory
