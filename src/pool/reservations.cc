// SPDX-License-Identifier: Apache-2.0
#include "pool/reservations.h"

#include <algorithm>

namespace lanepool::pool {

void Reservations::set_site(const Site& site) {
    classes_.clear();
    entries_.clear();
    by_name_.clear();
    shared_.clear();
    std::map<std::string, size_t> numbers;
    for (const auto& reservation : site.reservations) {
        const auto known = std::find_if(site.classes.begin(), site.classes.end(), [&](const auto& one) {
            return one.name == reservation.device_class;
        });
        if (known == site.classes.end()) continue; // the site's reader refuses this
        const auto [number, added] = numbers.try_emplace(known->name, classes_.size());
        if (added) {
            classes_.emplace_back();
            classes_.back().any_of = known->any_of;
        }
        classes_[number->second].entries.push_back(entries_.size());
        by_name_[reservation.name] = entries_.size();
        Entry entry;
        entry.reservation = reservation;
        entry.device_class = number->second;
        const auto served = served_.find(reservation.name);
        entry.served = served == served_.end() ? 0 : served->second;
        entries_.push_back(std::move(entry));
    }
    for (size_t one = 0; one < entries_.size(); ++one)
        for (size_t other = 0; other < entries_.size(); ++other)
            if (one != other && (ever_together(entries_[one].reservation, entries_[other].reservation) ||
                                 ever_together(entries_[other].reservation, entries_[one].reservation)))
                entries_[one].overlapping.push_back(other);
}

std::vector<size_t> Reservations::classes_of(const Device& device) const {
    std::vector<size_t> found;
    for (size_t number = 0; number < classes_.size(); ++number)
        if (std::any_of(classes_[number].any_of.begin(), classes_[number].any_of.end(),
                        [&](const Selector& selector) { return selects(selector, device); }))
            found.push_back(number);
    return found;
}

void Reservations::note_member(const std::vector<size_t>& classes, bool comes) {
    for (size_t i = 0; i < classes.size(); ++i) {
        classes_[classes[i]].members += comes ? 1 : -1;
        for (size_t j = i + 1; j < classes.size(); ++j)
            shared_[{classes[i], classes[j]}] += comes ? 1 : -1;
    }
}

void Reservations::note_free(const std::vector<size_t>& classes, bool comes) {
    for (const size_t number : classes)
        classes_[number].free += comes ? 1 : -1;
}

void Reservations::note_back(const std::vector<size_t>& classes, int64_t back_us, bool comes) {
    for (const size_t number : classes) {
        auto& back = classes_[number].back_us;
        if (comes)
            back.insert(back_us);
        else if (const auto found = back.find(back_us); found != back.end())
            back.erase(found);
    }
}

void Reservations::note_served(const std::string& reservation, bool comes) {
    const auto count = served_.try_emplace(reservation).first;
    count->second += comes ? 1 : -1;
    if (const auto found = by_name_.find(reservation); found != by_name_.end())
        entries_[found->second].served = count->second;
    if (count->second == 0) served_.erase(count);
}

void Reservations::Taken::add(const std::vector<size_t>& classes, const std::string& reservation) {
    for (const size_t number : classes)
        ++of_class[number];
    if (!reservation.empty()) ++for_reservation[reservation];
}

std::optional<Interval> Reservations::interval_at(const Reservation& reservation, int64_t unix_us) {
    if (reservation.weekly) return next_interval(*reservation.weekly, unix_us);
    if (reservation.once && reservation.once->end_us > unix_us) return reservation.once;
    return std::nullopt;
}

// Whether one of ONE's intervals meets one of OTHER's. Those of a week stand for all.
bool Reservations::ever_together(const Reservation& one, const Reservation& other) {
    constexpr int64_t week_us = 7LL * 24 * 3600 * 1'000'000;
    constexpr size_t most_intervals = 16; // a week has 7 begins
    auto interval = one.weekly ? interval_at(one, 0) : one.once;
    for (size_t i = 0; interval && i < most_intervals && (i == 0 || interval->begin_us < 2 * week_us); ++i) {
        const auto met = interval_at(other, interval->begin_us);
        if (met && met->begin_us < interval->end_us) return true;
        if (!one.weekly) return false;
        interval = interval_at(one, interval->end_us);
    }
    return false;
}

const std::optional<Interval>& Reservations::interval(const Entry& entry, int64_t now_us) const {
    const bool known = now_us >= entry.known_from_us && (!entry.interval || now_us < entry.interval->end_us);
    if (!known) {
        entry.interval = interval_at(entry.reservation, now_us);
        entry.known_from_us = now_us;
    }
    return entry.interval;
}

// Devices that the reservation may still claim.
int64_t Reservations::missing(const Entry& entry, const Taken& taken) const {
    const auto found = taken.for_reservation.find(entry.reservation.name);
    const int64_t more = found == taken.for_reservation.end() ? 0 : found->second;
    return std::max<int64_t>(0, int64_t{entry.reservation.count} - entry.served - more);
}

int64_t Reservations::shared(size_t one, size_t other) const {
    if (one == other) return classes_[one].members;
    const auto found = shared_.find({std::min(one, other), std::max(one, other)});
    return found == shared_.end() ? 0 : found->second;
}

// The most that other reservations may take of what one needs.
int64_t Reservations::claims_of_others(size_t index, const Taken& taken, int64_t now_us) const {
    const Entry& entry = entries_[index];
    const auto runs_now = [&](const Entry& other) {
        const auto& when = interval(other, now_us);
        return when && when->begin_us <= now_us;
    };
    int64_t claims = 0;
    for (size_t i = 0; i < entries_.size(); ++i) {
        const Entry& other = entries_[i];
        // A loan may outlast the reservation that it was claimed under: one that runs now may hold devices
        // in the interval of one to come, even where their own times never meet.
        if (i == index ||
            (!runs_now(other) && !std::binary_search(entry.overlapping.begin(), entry.overlapping.end(), i)))
            continue;
        claims += std::min(missing(other, taken), shared(entry.device_class, other.device_class));
    }
    return claims;
}

// TENANT's reservation that runs and has not got all of its devices.
const Reservations::Entry* Reservations::own(const std::vector<size_t>& classes, const std::string& tenant,
                                             const Taken& taken, int64_t now_us) const {
    const Entry* first = nullptr;
    for (const size_t number : classes)
        for (const size_t index : classes_[number].entries) {
            const Entry& entry = entries_[index];
            if (entry.reservation.tenant != tenant || missing(entry, taken) == 0) continue;
            const auto& when = interval(entry, now_us);
            if (when && when->begin_us <= now_us && (first == nullptr || &entry < first)) first = &entry;
        }
    return first;
}

Reservations::Verdict Reservations::ask(const std::vector<size_t>& classes, const std::string& tenant,
                                        int64_t end_us, bool free, int64_t back_us, const Taken& taken,
                                        int64_t now_us, int64_t turnaround_us, size_t most_returns) const {
    Verdict verdict;
    const Entry* under = own(classes, tenant, taken, now_us);
    if (under != nullptr) verdict.under = &under->reservation;
    for (const size_t number : classes)
        for (const size_t index : classes_[number].entries) {
            const Entry& entry = entries_[index];
            if (entry.reservation.tenant == tenant) continue;
            // Of two that cannot both be had, the one that stands first in the site counts.
            if (under != nullptr && under < &entry) continue;
            const auto& when = interval(entry, now_us);
            if (!when) continue;
            const bool to_come = when->begin_us > now_us;
            if (to_come && end_us != never_us && end_us + turnaround_us <= when->begin_us) continue;

            int64_t need = missing(entry, taken);
            if (need == 0) continue;
            if (under == nullptr) need += claims_of_others(index, taken, now_us);
            const auto used = taken.of_class.find(number);
            int64_t there = classes_[number].free - (used == taken.of_class.end() ? 0 : used->second);
            if (free) --there;
            if (to_come) {
                if (!free && back_us <= when->begin_us) --there; // it is counted below
                size_t looked_at = 0;
                for (const int64_t back : classes_[number].back_us) {
                    if (there >= need || back > when->begin_us || ++looked_at > most_returns) break;
                    ++there;
                }
            }
            if (there < need) return {false, nullptr, &entry.reservation, *when};
        }
    return verdict;
}

std::optional<int64_t> Reservations::next_change_us(int64_t now_us) const {
    std::optional<int64_t> next;
    for (const auto& entry : entries_) {
        const auto& when = interval(entry, now_us);
        if (!when) continue;
        const int64_t change_us = when->begin_us > now_us ? when->begin_us : when->end_us;
        next = std::min(next.value_or(never_us), change_us);
    }
    return next;
}

} // namespace lanepool::pool
