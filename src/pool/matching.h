// SPDX-License-Identifier: Apache-2.0
//
// Distinct devices for the wishes of one group, so that as many wishes as possible get one and no lender
// gives more than it has windows for. Each device that a wish gets stays in use when further ones are added:
// what is matched only grows, and it is always as large as it can be.
#pragma once

#include "pool/market.h"

#include <cstdint>
#include <map>
#include <vector>

namespace lanepool::pool {

class Matching {
  public:
    explicit Matching(size_t wishes) : edges_(wishes), device_of_(wishes), visited_(wishes) {}

    // DEVICE would do for WISH; the ones added first are tried first. HOST: whose windows it takes; null:
    // none.
    void add(size_t wish, DeviceEntry* device, const HostEntry* host);
    void set_room(const HostEntry* host, int64_t room) { room_[host] = room; }
    // Tries to find a device for a wish that has none, moving others if need be.
    bool augment(size_t wish);
    // For all wishes without one; returns how many have one then.
    size_t complete();
    DeviceEntry* device_of(size_t wish) const { return device_of_[wish].device; }

  private:
    struct Edge {
        DeviceEntry* device = nullptr;
        const HostEntry* host = nullptr;
    };
    bool move(size_t wish);
    void assign(size_t wish, const Edge& edge);
    void unassign(size_t wish);

    std::vector<std::vector<Edge>> edges_;
    std::vector<Edge> device_of_;
    std::vector<bool> visited_;
    std::map<const DeviceEntry*, size_t> user_;
    std::map<const HostEntry*, int64_t> room_; // that is left
};

} // namespace lanepool::pool
