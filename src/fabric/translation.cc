// SPDX-License-Identifier: Apache-2.0
#include "fabric/translation.h"

#include "fabric/port.h"
#include "fabric/switch.h"

#include <algorithm>

namespace lanepool::fabric {
namespace {

// What stops every access that HOP leads to, if anything.
std::optional<Obstacle> obstacle(Switch& fabric, const Port& source, const Hop& hop) {
    if (!hop.target) return Obstacle::no_window;
    if (!source.link_up()) return Obstacle::link_down;
    if (!source.control().lists(host_requester)) return Obstacle::requester;
    const Port& target = fabric.port(hop.target->partition);
    if (!target.link_up()) return Obstacle::link_down;
    if (!target.bus_master()) return Obstacle::bus_master;
    return std::nullopt;
}

} // namespace

std::vector<Segment> translate(Switch& fabric, const Port& source, unsigned slot, uint64_t offset_bytes,
                               uint64_t size_bytes) {
    std::vector<Segment> segments;
    for (uint64_t done = 0; done < size_bytes;) {
        const Hop hop = source.control().windows().translate(slot, offset_bytes + done);
        const uint64_t hop_end = done + std::min(hop.size_bytes, size_bytes - done);
        if (const auto stop = obstacle(fabric, source, hop)) {
            segments.push_back({done, hop_end - done, stop, hop.target ? hop.target->partition : 0, {}, {}});
            done = hop_end;
            continue;
        }
        Iova address{hop.target->address.value};
        while (done < hop_end) {
            const Port& target = fabric.port(hop.target->partition);
            auto place = target.dma().at(address, hop_end - done);
            const auto unmapped =
                place.mapping || target.whole_machine() ? std::nullopt : std::optional(Obstacle::not_mapped);
            segments.push_back(
                {done, place.size_bytes, unmapped, hop.target->partition, address, std::move(place.mapping)});
            done += place.size_bytes;
            address = address + place.size_bytes;
        }
    }
    return segments;
}

} // namespace lanepool::fabric
