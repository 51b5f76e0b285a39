// SPDX-License-Identifier: Apache-2.0
//
// Reservations that cannot be honoured. How many devices a site has is not in its file, but a class of
// devices that are named one by one says how many it can have at most.
#include "site/draft.h"

#include <algorithm>
#include <fmt/format.h>
#include <map>
#include <set>

namespace lanepool::site {

namespace {

constexpr int64_t second_us = 1'000'000;
constexpr int64_t day_s = 86400;
constexpr int64_t week_us = 7 * day_s * second_us;
// 1 January 1970 was a Thursday: the first Monday is four days later.
constexpr int64_t first_monday_us = 4 * day_s * second_us;

int64_t modulo_week(int64_t us) { return ((us % week_us) + week_us) % week_us; }

// Where in the week, of UTC, a calendar begins on DAY.
int64_t weekly_begin_us(const pool::Calendar& calendar, int day) {
    return modulo_week((day * day_s + calendar.begin_s - calendar.utc_offset_s) * second_us);
}

// At a point of the week, or at a point in time.
bool holds_at(const pool::Calendar& calendar, int64_t in_week_us) {
    for (int day = 0; day < 7; ++day)
        if ((calendar.days & 1 << day) != 0 &&
            modulo_week(in_week_us - weekly_begin_us(calendar, day)) < calendar.length_s * second_us)
            return true;
    return false;
}

bool holds_at(const pool::Reservation& reservation, int64_t unix_us) {
    if (reservation.once) return reservation.once->begin_us <= unix_us && unix_us < reservation.once->end_us;
    return reservation.weekly && holds_at(*reservation.weekly, modulo_week(unix_us - first_monday_us));
}

// Reservations of the same devices; the moments at which the most of them hold are among those in which one
// of them begins: a point of the week for those that repeat, and the first such point after the begin of each
// that does not.
class Overlap {
  public:
    struct Peak {
        uint64_t devices = 0;
        const pool::Reservation* last = nullptr; // of those that hold then, in the order of the file
    };

    void add(const pool::Reservation& reservation) { reservations_.push_back(&reservation); }

    // The moment at which the most devices are reserved.
    Peak peak() const {
        Peak result;
        for (const int64_t moment : moments()) {
            Peak now;
            for (const auto* each : reservations_) {
                if (!holds_at(*each, moment)) continue;
                now.devices += each->count;
                now.last = each;
            }
            if (now.devices > result.devices) result = now;
        }
        return result;
    }

  private:
    std::set<int64_t> moments() const {
        std::set<int64_t> weekly;
        for (const auto* each : reservations_)
            for (int day = 0; each->weekly && day < 7; ++day)
                if ((each->weekly->days & 1 << day) != 0) weekly.insert(weekly_begin_us(*each->weekly, day));
        std::set<int64_t> result;
        for (const int64_t begin : weekly) // before everything that is once
            result.insert(first_monday_us + begin);
        for (const auto* each : reservations_) {
            if (!each->once) continue;
            const int64_t begin_us = each->once->begin_us;
            result.insert(begin_us);
            for (const int64_t begin : weekly)
                result.insert(begin_us + modulo_week(begin - (begin_us - first_monday_us)));
        }
        return result;
    }

    std::vector<const pool::Reservation*> reservations_;
};

// The devices of a class whose selectors name one each; none: it has a selector that may select any number.
std::set<std::string> named_devices(const pool::DeviceClass& device_class) {
    std::set<std::string> devices;
    for (const auto& selector : device_class.any_of) {
        if (selector.device.empty()) return {};
        devices.insert(selector.device);
    }
    return devices;
}

} // namespace

void check_reservations(const Draft& draft, Problems& problems) {
    std::map<std::string, std::set<std::string>> devices_of;
    for (size_t i = 0; i < draft.classes.size(); ++i)
        if (draft.classes[i].whole)
            devices_of[draft.site.classes[i].name] = named_devices(draft.site.classes[i]);
    std::map<std::set<std::string>, Overlap> overlaps;
    for (size_t i = 0; i < draft.reservations.size(); ++i) {
        const auto& reservation = draft.site.reservations[i];
        const auto devices = devices_of.find(reservation.device_class);
        if (!draft.reservations[i].whole || devices == devices_of.end() || devices->second.empty()) continue;
        const size_t most = devices->second.size();
        if (reservation.count > most)
            problems.add(draft.reservations[i].at,
                         fmt::format("reservation '{}' asks for {} devices, but class '{}' names only {}; "
                                     "ask for at most that many",
                                     reservation.name, reservation.count, reservation.device_class, most));
        else
            overlaps[devices->second].add(reservation);
    }
    for (const auto& [devices, overlap] : overlaps) {
        const auto peak = overlap.peak();
        if (peak.devices <= devices.size()) continue;
        const auto at =
            draft.reservations[static_cast<size_t>(peak.last - draft.site.reservations.data())].at;
        problems.add(at, fmt::format("reservation '{}' overlaps others: together they need {} devices at a "
                                     "time, but class '{}' names only "
                                     "{}; ask for fewer, or for another time",
                                     peak.last->name, peak.devices, peak.last->device_class, devices.size()));
    }
}

} // namespace lanepool::site
