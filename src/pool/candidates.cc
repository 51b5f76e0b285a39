// SPDX-License-Identifier: Apache-2.0
#include "pool/candidates.h"

#include <algorithm>

namespace lanepool::pool {

Candidates::Candidates(Market& market, const Want& want, const HostEntry& near,
                       const std::map<const HostEntry*, int64_t>& used)
    : market_(market), want_(want), near_(near), used_(used), levels_left_(near.nodes.size()) {
    if (want.scoped) {
        levels_left_ = 0;
        for (DeviceEntry* entry : market.devices_of(want)) {
            if (!entry->listing.free) continue;
            HostEntry& host = *entry->listing.host;
            const auto& type = *entry->listing.type;
            items_.push({pool::distance(near, host),
                         -room(host),
                         type.sample.identity.capacity_bytes,
                         entry->fdid,
                         type.number,
                         &host,
                         {}});
        }
        return;
    }
    for (const auto& [type, fdids] : near.free)
        if (matches(type)) push_host(*market_.host(near.name), type, {}, 0);
}

int64_t Candidates::room(const HostEntry& host) const {
    const auto found = used_.find(&host);
    return host.room - (found == used_.end() ? 0 : found->second);
}

void Candidates::push_place(uint32_t type, Places::const_iterator place) {
    const auto& of_type = node_->hosts.at(type);
    if (place == of_type.end()) return;
    items_.push({level_distance_, std::get<0>(*place), market_.types()[type]->sample.identity.capacity_bytes,
                 std::get<1>(*place), type, nullptr, place});
}

void Candidates::push_host(HostEntry& host, uint32_t type, Fdid from, size_t distance) {
    const auto& fdids = host.free.at(type);
    const auto first = fdids.lower_bound(from);
    if (first == fdids.end()) return;
    items_.push({distance,
                 -room(host),
                 market_.types()[type]->sample.identity.capacity_bytes,
                 *first,
                 type,
                 &host,
                 {}});
}

// The next place outwards: everything in it that was not in the one before is farther than what was.
void Candidates::open_level() {
    --levels_left_;
    inner_ = node_;
    node_ = near_.nodes[levels_left_];
    level_distance_ = near_.nodes.size() - levels_left_;
    for (const auto& [type, places] : node_->hosts)
        if (matches(type)) push_place(type, places.begin());
}

DeviceEntry* Candidates::next() {
    for (;;) {
        while (items_.empty() && levels_left_ > 0)
            open_level();
        if (items_.empty()) return nullptr;
        const Item item = items_.top();
        items_.pop();
        ++looked_at_;
        if (item.host != nullptr) {
            if (!want_.scoped) push_host(*item.host, item.type, item.fdid.next(), item.distance);
            distance_ = item.distance;
            return market_.device(item.fdid);
        }
        push_place(item.type, std::next(item.place));
        HostEntry* host = std::get<2>(*item.place);
        const bool given = host == &near_ || (inner_ != nullptr && levels_left_ + 1 < host->nodes.size() &&
                                              host->nodes[levels_left_ + 1] == inner_);
        if (!given) push_host(*host, item.type, {}, item.distance);
    }
}

} // namespace lanepool::pool
