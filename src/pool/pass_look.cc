// SPDX-License-Identifier: Apache-2.0
//
// One group in one decision: what it could have, what it gets, and what is kept for it while it waits.
#include "pool/pass.h"

#include <algorithm>

namespace lanepool::pool {

// Whether the group's devices, if it got them now, would be available again by then.
bool Pass::back_by(const Group& group, int64_t until_us) const {
    return group.end_us != never_us && group.end_us + in_.limits.turnaround_us <= until_us;
}

// Windows of a host that the group may use. Those that are kept for somebody ahead are not for it, unless it
// has given them back by then.
int64_t Pass::room_for(const Group& group, const HostEntry& host) const {
    int64_t room = host.room;
    if (const auto used = used_.find(&host); used != used_.end()) room -= used->second;
    if (const auto kept = room_kept_.find(&host); kept != room_kept_.end())
        if (!back_by(group, room_until_.at(&host).until_us)) room -= kept->second;
    return room;
}

// A limit that has nothing to do with devices.
std::string Pass::blocked(const Unit& unit, const Group& group, Look::Fate& fate) const {
    const Loan& wish = *group.wishes.front();
    const auto count = static_cast<int64_t>(group.wishes.size());
    const TenantEntry& tenant = *unit.row->line->bucket->tenant;
    const auto of = [](const auto& map, const auto& key) {
        const auto found = map.find(key);
        return found == map.end() ? 0 : found->second;
    };
    fate = Look::Fate::line;
    const int64_t held = tenant.held + of(started_, &tenant);
    if (tenant.most_loans > 0 && held + count > tenant.most_loans)
        return fmt::format("tenant '{}' has {} loans, and may have {} at once", tenant.name, held,
                           tenant.most_loans);
    const uint32_t most = of(in_.most_of_rule, wish.rule);
    const int64_t under_rule =
        of(tenant.held_by_rule, wish.rule) + of(started_under_rule_, std::pair(&tenant, wish.rule));
    if (most > 0 && under_rule + count > most)
        return fmt::format("tenant '{}' has {} loans under rule '{}', which allows {} at once", tenant.name,
                           under_rule, wish.rule, most);
    fate = Look::Fate::row;
    const HostEntry& host = *group.borrower;
    if (host.record == nullptr) return fmt::format("no host '{}' is known", host.name);
    if (!host.record->up) return fmt::format("host {} is not connected", host.name);
    if (!host.record->draining.empty())
        return fmt::format("host {} is being drained: {}", host.name, host.record->draining);
    if (!host.rule.borrows) return fmt::format("the site does not let host {} borrow", host.name);
    if (const int64_t room = room_for(group, host); room < count)
        return fmt::format("host {} has {} of its {} windows left, and {} needed", host.name,
                           std::max<int64_t>(0, room), host.record->windows,
                           count == 1 ? std::string("one is") : fmt::format("{} are", count));
    return {};
}

Reservations::Verdict Pass::ask(const Group& group, const Loan& wish, const DeviceEntry& device,
                                bool free) const {
    const auto& listing = device.listing;
    const int64_t back_us = listing.counts_back ? listing.back_us + in_.limits.turnaround_us : never_us;
    return in_.reservations.ask(listing.classes, wish.tenant, group.end_us, free, back_us, group.taken,
                                now_.unix_us, in_.limits.turnaround_us, in_.limits.returns);
}

bool Pass::eligible(const Group& group, const Loan& wish, const DeviceEntry& device, bool free,
                    Obstacles& obstacles) {
    const HostEntry& lender = *device.listing.host;
    if (gone_.contains(device.fdid)) return ++obstacles.taken, false;
    if (&lender == group.borrower && is_to_system(wish.access_model)) return ++obstacles.own_host, false;
    if (free && room_for(group, lender) <= 0) {
        if (obstacles.no_room++ == 0) obstacles.full_host = lender.name;
        return false;
    }
    const bool accepted = group.accepted.contains(&device);
    Reservations::Verdict verdict;
    if (!accepted && !device.listing.classes.empty()) {
        verdict = ask(group, wish, device, free);
        if (!verdict.allowed) {
            if (obstacles.reserved++ == 0) obstacles.verdict = verdict;
            return false;
        }
    }
    // Whose reservation runs does not wait for those ahead of it.
    if (const auto kept = kept_.find(device.fdid); kept != kept_.end() && !accepted &&
                                                   verdict.under == nullptr &&
                                                   !back_by(group, kept->second.until_us)) {
        if (obstacles.kept++ == 0) obstacles.kept_for = kept->second.owner;
        return false;
    }
    if (!in_.check) return true;
    if (const auto fits = in_.check(wish, *device.record); !fits) {
        if (obstacles.refused++ == 0) obstacles.refusal = fits.error().message();
        return false;
    }
    return true;
}

// Finds enough candidates for a wish of a group: as many as the group has wishes are as good as all.
void Pass::collect(Group& group, size_t wish, Obstacles& obstacles) {
    const Loan& loan = *group.wishes[wish];
    const Want& want = *group.unit.wants[wish];
    if (want.live == 0) return; // nothing that it means can be lent
    const HostEntry& near = loan.near.empty() ? *group.borrower : *in_.market.host(loan.near);
    auto& found = group.candidates[wish];
    if (want.fdid) {
        DeviceEntry* device = in_.market.device(*want.fdid);
        if (gone_.contains(device->fdid)) {
            ++obstacles.taken;
            return;
        }
        ++tried_;
        if (!eligible(group, loan, *device, true, obstacles)) return;
        found.push_back(device);
        group.distances.try_emplace(device, pool::distance(near, *device->listing.host));
        return;
    }
    Candidates candidates(in_.market, want, near, used_);
    size_t tried = 0;
    size_t steps = 0;
    while (found.size() < group.wishes.size()) {
        if (tried >= in_.limits.candidates_per_wish + group.wishes.size() || tried_ >= tries_allowed_ ||
            steps >= 4 * in_.limits.candidates_per_wish + starts_.size()) {
            obstacles.cut_short = true;
            if (found.empty()) collect_onwards(group, wish, obstacles);
            return;
        }
        DeviceEntry* device = candidates.next();
        if (device == nullptr) return;
        ++steps;
        // What this decision has given away is still listed, and costs next to nothing.
        if (gone_.contains(device->fdid)) {
            ++obstacles.taken;
            continue;
        }
        ++tried;
        ++tried_;
        if (!eligible(group, loan, *device, true, obstacles)) continue;
        found.push_back(device);
        group.distances.try_emplace(device, candidates.distance());
    }
}

// Where the nearest ones are all of no use: some more, host by host, from where the last decision has
// stopped.
void Pass::collect_onwards(Group& group, size_t wish, Obstacles& obstacles) {
    const Want& want = *group.unit.wants[wish];
    if (want.scoped) return;
    const Loan& loan = *group.wishes[wish];
    const HostEntry& near = loan.near.empty() ? *group.borrower : *in_.market.host(loan.near);
    Line& line = *group.unit.row->line;
    const auto& hosts = in_.market.hosts();
    size_t tried = 0;
    auto host = hosts.upper_bound(line.looked_until);
    for (size_t seen = 0; seen < in_.limits.hosts_onwards && tried < in_.limits.candidates_per_wish; ++seen) {
        if (host == hosts.end()) {
            line.looked_until.clear();
            return;
        }
        line.looked_until = host->first;
        for (const auto& [type, fdids] : host->second.free) {
            if (!want.matches[type]) continue;
            for (const Fdid fdid : fdids) {
                DeviceEntry* device = in_.market.device(fdid);
                ++tried;
                ++tried_;
                if (!eligible(group, loan, *device, true, obstacles)) continue;
                group.candidates[wish].push_back(device);
                group.distances.try_emplace(device, pool::distance(near, host->second));
                return;
            }
        }
        ++host;
    }
}

// Returns how many wishes would get a device of those that can be lent now.
size_t Pass::match(Group& group, Look& look, Matching& matching) {
    const size_t count = group.wishes.size();
    group.candidates.assign(count, {});
    look.obstacles.assign(count, {});
    const auto& wants = group.unit.wants;
    for (size_t wish = 0; wish < count; ++wish) {
        const auto first =
            static_cast<size_t>(std::find(wants.begin(), wants.end(), wants[wish]) - wants.begin());
        if (first == wish)
            collect(group, wish, look.obstacles[wish]);
        else
            group.candidates[wish] = group.candidates[first];
        for (DeviceEntry* device : group.candidates[wish]) {
            matching.set_room(device->listing.host, room_for(group, *device->listing.host));
            matching.add(wish, device, device->listing.host);
        }
    }
    return matching.complete();
}

// Whether reservations let the group have all of these together. Where not, the ones before the first that is
// refused are accepted: another try goes on from there.
bool Pass::accept(Group& group, const Matching& matching, Look& look) const {
    group.taken = taken_;
    group.accepted.clear();
    look.starts.clear();
    look.distances.clear();
    for (size_t wish = 0; wish < group.wishes.size(); ++wish) {
        const DeviceEntry* device = matching.device_of(wish);
        const Loan& loan = *group.wishes[wish];
        std::string reservation;
        if (const auto& classes = device->listing.classes; !classes.empty()) {
            const auto verdict = ask(group, loan, *device, true);
            if (!verdict.allowed) {
                ++look.obstacles[wish].reserved;
                look.obstacles[wish].verdict = verdict;
                return false;
            }
            if (verdict.under != nullptr) reservation = verdict.under->name;
            group.taken.add(classes, reservation);
        }
        group.accepted.insert(device);
        look.starts.push_back({loan.id, device->fdid, reservation});
        look.distances.push_back(group.distances.at(device));
    }
    return true;
}

void Pass::serve(Group& group, Look& look) {
    look.fate = Look::Fate::served;
    taken_ = std::move(group.taken);
    for (const Start& start : look.starts) {
        gone_.insert(start.fdid);
        ++used_[in_.market.device(start.fdid)->listing.host];
        ++used_[group.borrower];
    }
    const auto count = static_cast<int64_t>(look.starts.size());
    const TenantEntry* tenant = group.unit.row->line->bucket->tenant;
    started_[tenant] += count;
    started_under_rule_[{tenant, group.wishes.front()->rule}] += count;
    starts_.insert(starts_.end(), look.starts.begin(), look.starts.end());
}

Look Pass::look(Unit& unit, bool decide) {
    Look look;
    Group group{unit, {}, unit.row->borrower, never_us, taken_, {}, {}, {}};
    for (const auto& [id, wish] : unit.wishes)
        group.wishes.push_back(wish);
    if (const int64_t duration_s = group.wishes.front()->duration_s; duration_s > 0)
        group.end_us = now_.unix_us + in_.limits.setup_us + duration_s * 1'000'000;
    look.blocked = blocked(unit, group, look.fate);
    if (!look.blocked.empty()) return look;

    for (size_t tries = 0;; ++tries) {
        Matching matching(group.wishes.size());
        const size_t matched = match(group, look, matching);
        if (matched == group.wishes.size()) {
            if (accept(group, matching, look)) {
                if (decide) serve(group, look);
                return look;
            }
            // What is left for this group is less than each of its wishes alone could have: look again with
            // what was accepted as taken.
            if (tries < in_.limits.matchings) continue;
        }
        look.starts.clear();
        look.distances.clear();
        look.matched.resize(group.wishes.size());
        for (size_t wish = 0; wish < group.wishes.size(); ++wish) {
            const DeviceEntry* device = matching.device_of(wish);
            look.matched[wish] =
                device != nullptr && (matched < group.wishes.size() || group.accepted.contains(device));
        }
        const bool cut_short = std::any_of(look.obstacles.begin(), look.obstacles.end(),
                                           [](const Obstacles& obstacles) { return obstacles.cut_short; });
        preempt(group, look, matching, matched < group.wishes.size() && !cut_short, decide);
        wait(group, look, matching);
        return look;
    }
}

// Keeps for a group that is short of devices what there is of them. Any other device it may lose without
// being delayed: what it has matched is as much as can be matched of all that are free, and stays so when
// others come back.
void Pass::wait(Group& group, Look& look, const Matching& matching) {
    const bool single = group.wishes.size() == 1;
    look.fate = Look::Fate::unit;
    if (single) {
        const Obstacles& obstacles = look.obstacles.front();
        const bool of_its_own = obstacles.own_host + obstacles.refused + obstacles.no_room > 0 ||
                                obstacles.cut_short || !look.preemptions.empty() || !look.ending.empty() ||
                                group.unit.row->line->wants.front()->scoped || group.wishes.front()->preempts;
        look.fate = of_its_own ? Look::Fate::row : Look::Fate::line;
        // A group of a row with something ending for it says nothing about the next one.
        if (!look.preemptions.empty() || !look.ending.empty()) look.fate = Look::Fate::unit;
    }
    int64_t shadow_us = now_.unix_us;
    if ((single ? explains_ : shadows_ < in_.limits.shadows) && look.preemptions.empty() &&
        look.ending.empty()) {
        shadows_ += single ? 0 : 1;
        shadow_us = earliest_us(group, look, matching);
        if (shadow_us > now_.unix_us) look.not_before_us = shadow_us;
    }
    if (single) return;
    for (const Obstacles& obstacles : look.obstacles)
        unsettled_ |= obstacles.taken > 0;
    const auto keep = [&](auto& kept, const auto& key) {
        const auto [found, added] = kept.try_emplace(key, Kept{shadow_us, group.unit.group});
        if (!added) found->second.until_us = std::min(found->second.until_us, shadow_us);
    };
    for (size_t wish = 0; wish < group.wishes.size(); ++wish) {
        keep(room_until_, static_cast<const HostEntry*>(group.borrower));
        ++room_kept_[group.borrower];
        const DeviceEntry* device = matching.device_of(wish);
        if (device == nullptr || !device->listing.free) continue;
        const HostEntry* lender = device->listing.host;
        keep(kept_, device->fdid);
        keep(room_until_, lender);
        ++room_kept_[lender];
    }
}

} // namespace lanepool::pool
