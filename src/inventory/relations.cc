// SPDX-License-Identifier: Apache-2.0
//
// What cannot be seen of one function alone.
#include "inventory/parts.h"
#include "pci/address.h"

#include <algorithm>
#include <map>

namespace lanepool::inventory {

namespace {

// The bridge that leads to BUS; the deepest, where several say so.
const Function* bridge_to(const Machine& machine, const pci::Address& below) {
    const Function* best = nullptr;
    for (const auto& each : machine.functions) {
        if (!each.buses || each.address.domain != below.domain || each.address == below) continue;
        const auto [secondary, subordinate] = *each.buses;
        if (secondary == 0 || below.bus < secondary || below.bus > subordinate) continue;
        if (!best || secondary > best->buses->secondary) best = &each;
    }
    return best;
}

// A tree whose folders are not nested (a flat copy) does not say what is above; bus numbers do.
void find_bridges(Machine& machine) {
    for (auto& function : machine.functions) {
        if (function.upstream && !machine.find(*function.upstream)) function.upstream.reset();
        if (function.upstream || function.parent) continue;
        if (const auto* bridge = bridge_to(machine, function.address)) function.upstream = bridge->address;
    }
    for (auto& function : machine.functions) { // of what bus numbers do not reach: it is its parent's
        if (function.upstream || !function.parent) continue;
        if (const auto* parent = machine.find(*function.parent)) function.upstream = parent->upstream;
    }
}

// Whoever follows `upstream` must arrive at a root bus, whatever a tree says.
void cut_circles(Machine& machine) {
    for (auto& function : machine.functions) {
        const Function* above = &function;
        for (size_t steps = 0; above && above->upstream; ++steps) {
            if (steps > 256 || *above->upstream == function.address) {
                function.upstream.reset();
                function.notes.push_back("the bridges above it form a circle");
                break;
            }
            above = machine.find(*above->upstream);
        }
    }
}

void count_siblings(Machine& machine) {
    std::map<pci::Address, unsigned> counts; // by function 0
    const auto device_of = [](pci::Address address) {
        address.function = 0;
        return address;
    };
    for (const auto& function : machine.functions)
        if (!function.parent) ++counts[device_of(function.address)];
    for (auto& function : machine.functions)
        function.multi_function =
            !function.parent && (function.multi_function || counts[device_of(function.address)] > 1);
}

// /sys/bus/pci/slots/NUMBER/address has the device, without its function.
void find_slots(Files& files, Machine& machine) {
    std::map<std::string, unsigned> slots;
    for (const auto& [name, kind] : files.list("/sys/bus/pci/slots", 4096))
        if (const auto number = to_number(name); number && kind != Kind::file && *number < 65536)
            slots[read_word(files, "/sys/bus/pci/slots/" + name + "/address", 32)] =
                static_cast<unsigned>(*number);
    std::map<pci::Address, std::optional<unsigned>> below; // of the ports that have one
    for (auto& function : machine.functions) {
        below[function.address] = function.slot;
        function.slot.reset(); // a port is not in the slot below it
    }
    for (auto& function : machine.functions) {
        const auto text = pci::to_string(function.address);
        const auto found = slots.find(text.substr(0, text.rfind('.')));
        if (found != slots.end())
            function.slot = found->second;
        else if (function.upstream)
            function.slot = below[*function.upstream];
    }
}

} // namespace

void relate_functions(Files& files, Machine& machine) {
    find_bridges(machine);
    cut_circles(machine);
    count_siblings(machine);
    find_slots(files, machine);
}

} // namespace lanepool::inventory
