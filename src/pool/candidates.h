// SPDX-License-Identifier: Apache-2.0
//
// Where to look first: the order in which devices that can be lent are tried for a wish.
#pragma once

#include "pool/market.h"

#include <queue>

namespace lanepool::pool {

// The devices that can be lent and are meant by a want, best first: nearest, most room, smallest, lowest
// fdid. The market must not change meanwhile.
class Candidates {
  public:
    // USED: windows that this decision has taken so far, by host.
    Candidates(Market& market, const Want& want, const HostEntry& near,
               const std::map<const HostEntry*, int64_t>& used);
    // Null at the end.
    DeviceEntry* next();
    // Of the last one.
    size_t distance() const { return distance_; }
    size_t looked_at() const { return looked_at_; }

  private:
    struct Item {
        size_t distance;
        int64_t less_room; // negative: most room first
        uint64_t capacity;
        Fdid fdid;
        uint32_t type;
        // In a host, at FDID; or, if null, at this place of a node.
        HostEntry* host;
        Places::const_iterator place;

        // For a priority queue: the best is on top.
        bool operator<(const Item& other) const {
            return std::tie(distance, less_room, capacity, fdid) >
                   std::tie(other.distance, other.less_room, other.capacity, other.fdid);
        }
    };

    void open_level();
    void push_place(uint32_t type, Places::const_iterator place);
    void push_host(HostEntry& host, uint32_t type, Fdid from, size_t distance);
    int64_t room(const HostEntry& host) const;
    bool matches(uint32_t type) const { return type < want_.matches.size() && want_.matches[type]; }

    Market& market_;
    const Want& want_;
    const HostEntry& near_;
    const std::map<const HostEntry*, int64_t>& used_;
    std::priority_queue<Item> items_;
    size_t levels_left_; // of near's nodes, the deepest first
    size_t level_distance_ = 1;
    const Node* node_ = nullptr;
    const Node* inner_ = nullptr; // those in it have been given
    size_t distance_ = 0;
    size_t looked_at_ = 0;
};

} // namespace lanepool::pool
