// SPDX-License-Identifier: Apache-2.0
#include "pool/matching.h"

#include <algorithm>

namespace lanepool::pool {

void Matching::add(size_t wish, DeviceEntry* device, const HostEntry* host) {
    edges_[wish].push_back({device, host});
}

void Matching::assign(size_t wish, const Edge& edge) {
    device_of_[wish] = edge;
    user_[edge.device] = wish;
    if (edge.host != nullptr) --room_[edge.host];
}

void Matching::unassign(size_t wish) {
    const Edge edge = device_of_[wish];
    user_.erase(edge.device);
    if (edge.host != nullptr) ++room_[edge.host];
    device_of_[wish] = {};
}

bool Matching::augment(size_t wish) {
    std::fill(visited_.begin(), visited_.end(), false);
    return move(wish);
}

size_t Matching::complete() {
    size_t matched = 0;
    for (size_t wish = 0; wish < edges_.size(); ++wish)
        if (device_of_[wish].device != nullptr || augment(wish)) ++matched;
    return matched;
}

// A path of moves that ends at a device that nobody of the group has, in a host with room. A wish is asked
// once: the depth is at most the number of wishes.
bool Matching::move(size_t wish) {
    visited_[wish] = true;
    const auto has_room = [&](const Edge& edge) { return edge.host == nullptr || room_[edge.host] > 0; };
    for (const Edge& edge : edges_[wish])
        if (!user_.contains(edge.device) && has_room(edge)) {
            assign(wish, edge);
            return true;
        }
    for (const Edge& edge : edges_[wish]) {
        // In the way: the one that has the device, or else anybody who takes the host's room.
        std::vector<size_t> others;
        if (const auto user = user_.find(edge.device); user != user_.end())
            others.push_back(user->second);
        else
            for (size_t other = 0; other < device_of_.size(); ++other)
                if (device_of_[other].device != nullptr && device_of_[other].host == edge.host)
                    others.push_back(other);
        for (const size_t other : others) {
            if (visited_[other]) continue;
            const Edge before = device_of_[other];
            unassign(other);
            assign(wish, edge);
            if (move(other)) return true;
            unassign(wish);
            assign(other, before);
        }
    }
    return false;
}

} // namespace lanepool::pool
