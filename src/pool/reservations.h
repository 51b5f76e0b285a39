// SPDX-License-Identifier: Apache-2.0
//
// Who may take a device of a class of which some are reserved. Knows of each such class how many devices are
// free and when the others are due, and answers for one device at a time. docs/scheduling.md says how
// reservations that overlap are treated.
#pragma once

#include "pool/records.h"
#include "pool/site.h"

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace lanepool::pool {

// Unix times of things that have none.
inline constexpr int64_t never_us = INT64_MAX;

class Reservations {
  public:
    // Forgets all counts: devices have to be noted anew.
    void set_site(const Site& site);

    // The reserved classes that DEVICE is in, as numbers for the functions below.
    std::vector<size_t> classes_of(const Device& device) const;

    // A device is in the pool at all, in these classes; and then one of: it can be lent now, or it is held
    // and is available again at BACK_US (never_us: nobody knows).
    void note_member(const std::vector<size_t>& classes, bool comes);
    void note_free(const std::vector<size_t>& classes, bool comes);
    void note_back(const std::vector<size_t>& classes, int64_t back_us, bool comes);
    // A live loan that counts among a reservation's devices.
    void note_served(const std::string& reservation, bool comes);

    // Devices that are given away in a decision, on top of what was noted.
    struct Taken {
        std::map<size_t, int64_t> of_class;
        std::map<std::string, int64_t> for_reservation;
        void add(const std::vector<size_t>& classes, const std::string& reservation);
    };

    struct Verdict {
        bool allowed = true;
        const Reservation* under = nullptr;  // it counts among these
        const Reservation* stands = nullptr; // in the way, if not allowed
        Interval interval;                   // of `stands`
    };
    // Whether TENANT may have a device in these CLASSES from now until END_US (never_us: for ever). FREE: the
    // device is one of those noted as free; otherwise it is held, and is back at BACK_US.
    Verdict ask(const std::vector<size_t>& classes, const std::string& tenant, int64_t end_us, bool free,
                int64_t back_us, const Taken& taken, int64_t now_us, int64_t turnaround_us,
                size_t most_returns) const;

    // The next begin or end after NOW_US.
    std::optional<int64_t> next_change_us(int64_t now_us) const;

  private:
    struct Class {
        std::vector<Selector> any_of;
        int64_t members = 0;
        int64_t free = 0;
        std::multiset<int64_t> back_us;
        std::vector<size_t> entries; // the reservations of it
    };
    struct Entry {
        Reservation reservation;
        size_t device_class = 0;
        std::vector<size_t> overlapping; // entries that some of its times meet, ascending
        int64_t served = 0;
        // The interval that counts from known_from_us until its end.
        mutable std::optional<Interval> interval;
        mutable int64_t known_from_us = never_us;
    };

    static std::optional<Interval> interval_at(const Reservation& reservation, int64_t unix_us);
    static bool ever_together(const Reservation& one, const Reservation& other);
    const std::optional<Interval>& interval(const Entry& entry, int64_t now_us) const;
    int64_t missing(const Entry& entry, const Taken& taken) const;
    int64_t shared(size_t one, size_t other) const;
    int64_t claims_of_others(size_t index, const Taken& taken, int64_t now_us) const;
    const Entry* own(const std::vector<size_t>& classes, const std::string& tenant, const Taken& taken,
                     int64_t now_us) const;

    std::vector<Class> classes_;
    std::vector<Entry> entries_;
    std::map<std::string, size_t> by_name_;
    std::map<std::string, int64_t> served_; // also of names that the site does not know (any more)
    std::map<std::pair<size_t, size_t>, int64_t> shared_; // devices in both, the lower number first
};

} // namespace lanepool::pool
