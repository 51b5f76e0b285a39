// SPDX-License-Identifier: Apache-2.0
//
// The devices that somebody else has: whose loan has to end for a group, and when the others are back.
#include "pool/pass.h"

#include <algorithm>

namespace lanepool::pool {

// Loans that could be made to end for a group: of a lower priority; the lowest first, then those that have
// done the least.
std::vector<std::tuple<int32_t, int64_t, LoanId, Fdid>> Pass::victims(const Group& group) const {
    std::vector<std::tuple<int32_t, int64_t, LoanId, Fdid>> found;
    const int32_t priority = group.wishes.front()->priority;
    const auto add = [&](const DeviceEntry& device) {
        const auto& listing = device.listing;
        if (listing.victim && listing.victim_priority < priority && !gone_.contains(device.fdid))
            found.emplace_back(listing.victim_priority, -listing.victim_active_us, listing.victim_loan,
                               device.fdid);
    };
    const std::set<Want*> wants(group.unit.wants.begin(), group.unit.wants.end());
    std::set<uint32_t> types;
    for (const Want* want : wants) {
        if (want->scoped)
            for (const DeviceEntry* device : in_.market.devices_of(*want))
                add(*device);
        else
            for (uint32_t type = 0; type < want->matches.size(); ++type)
                if (want->matches[type]) types.insert(type);
    }
    for (const uint32_t type : types) {
        size_t looked_at = 0;
        for (const auto& victim : in_.market.types()[type]->victims) {
            if (std::get<0>(victim) >= priority || ++looked_at > in_.limits.victims) break;
            if (!gone_.contains(std::get<Fdid>(victim))) found.push_back(victim);
        }
    }
    std::sort(found.begin(), found.end());
    found.erase(std::unique(found.begin(), found.end()), found.end());
    if (found.size() > in_.limits.victims) found.resize(in_.limits.victims);
    return found;
}

// Completes what was MATCHED by loans that end for the group already, and, if that is not enough and it MAY,
// by further ones. Either all of its wishes are provided for then, or nobody has to end for it.
void Pass::preempt(Group& group, Look& look, Matching& matching, bool may, bool decide) {
    const size_t count = group.wishes.size();
    size_t matched = 0;
    for (size_t wish = 0; wish < count; ++wish)
        matched += matching.device_of(wish) != nullptr ? 1 : 0;
    Obstacles ignored;
    const auto add = [&](DeviceEntry& device, bool ask) {
        bool fits = false;
        for (size_t wish = 0; wish < count; ++wish) {
            if (!Market::is_meant(*group.unit.wants[wish], device)) continue;
            if (ask && !eligible(group, *group.wishes[wish], device, false, ignored)) continue;
            matching.add(wish, &device, nullptr);
            fits = true;
        }
        if (!fits) return false;
        for (size_t wish = 0; wish < count; ++wish)
            if (matching.device_of(wish) == nullptr && matching.augment(wish)) {
                ++matched;
                return true;
            }
        return false;
    };
    for (const auto& [fdid, loan] : in_.market.ending_for(group.unit.group)) {
        DeviceEntry* device = in_.market.device(fdid);
        if (device == nullptr || device->listing.type == nullptr) continue;
        if (matched < count && add(*device, false)) look.ending.push_back(loan);
    }
    if (!may || !group.wishes.front()->preempts || matched == count) return;
    const auto candidates = victims(group);
    for (const auto& [priority, active_us, loan, fdid] : candidates) {
        if (matched == count) break;
        if (preemptions_.size() + look.preemptions.size() >= in_.limits.preemptions) break;
        ++tried_;
        if (add(*in_.market.device(fdid), true)) look.preemptions.push_back({loan, group.unit.group});
    }
    if (matched < count) {
        look.preemptions.clear();
        return;
    }
    if (!decide) return;
    preemptions_.insert(preemptions_.end(), look.preemptions.begin(), look.preemptions.end());
    for (const auto& victim : candidates)
        if (std::any_of(look.preemptions.begin(), look.preemptions.end(),
                        [&](const Preemption& one) { return one.victim == std::get<LoanId>(victim); }))
            gone_.insert(std::get<Fdid>(victim));
}

// When the first COUNT of the devices that are held and meant by any of WANTS are back, soonest first.
std::vector<int64_t> Pass::soonest_back(const std::set<const Want*>& wants, size_t count,
                                        bool& cut_short) const {
    std::vector<std::pair<int64_t, Fdid>> back;
    std::set<uint32_t> types;
    for (const Want* want : wants) {
        if (want->scoped)
            for (const DeviceEntry* device : in_.market.devices_of(*want))
                if (device->listing.held) back.emplace_back(device->listing.back_us, device->fdid);
        if (!want->scoped)
            for (uint32_t type = 0; type < want->matches.size(); ++type)
                if (want->matches[type]) types.insert(type);
    }
    size_t looked_at = 0;
    for (const uint32_t type : types) {
        size_t of_type = 0;
        for (const auto& held : in_.market.types()[type]->held) {
            if (++of_type > count) break;
            if (++looked_at > in_.limits.returns) {
                cut_short = true;
                return {};
            }
            back.push_back(held);
        }
    }
    std::sort(back.begin(), back.end());
    back.erase(std::unique(back.begin(), back.end()), back.end());
    std::vector<int64_t> times;
    for (const auto& [back_us, fdid] : back)
        if (times.size() < count) times.push_back(back_us);
    return times;
}

// Before this time a group that is short of devices cannot start, going by due times. Never too late: where
// it cannot be worked out within the limits it is now.
int64_t Pass::earliest_us(const Group& group, const Look& look, const Matching& matching) const {
    const size_t count = group.wishes.size();
    size_t matched = 0;
    std::map<const Want*, size_t> wishes;
    std::set<const Want*> wants;
    for (size_t wish = 0; wish < count; ++wish) {
        matched += matching.device_of(wish) != nullptr ? 1 : 0;
        ++wishes[group.unit.wants[wish]];
        wants.insert(group.unit.wants[wish]);
    }
    int64_t earliest_us = now_.unix_us;
    for (const Obstacles& obstacles : look.obstacles) {
        // There are free ones, and what is in the way could give way at any time.
        if (obstacles.free_ones() > obstacles.own_host || obstacles.cut_short) return now_.unix_us;
    }
    bool cut_short = false;
    const auto bound = [&](const std::set<const Want*>& of, size_t missing) {
        if (missing == 0) return;
        const auto times = soonest_back(of, missing, cut_short);
        const int64_t all_us = times.size() < missing ? never_us : times[missing - 1];
        earliest_us = std::max(earliest_us, all_us);
    };
    bound(wants, count - matched);
    for (const auto& [want, needed] : wishes) {
        size_t there = 0;
        for (size_t wish = 0; wish < count; ++wish)
            if (group.unit.wants[wish] == want) there = std::max(there, group.candidates[wish].size());
        if (there < needed) bound({want}, needed - there);
    }
    return cut_short ? now_.unix_us : earliest_us;
}

} // namespace lanepool::pool
