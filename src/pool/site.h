// SPDX-License-Identifier: Apache-2.0
//
// What an operator decides about a site: who there is, who may borrow what and how, what follows from
// failures, and what is reserved. Plain values; src/site reads them from a file and checks that they fit
// together, so names in here always refer to something that is there. A site without a file is `Site()`:
// everybody may borrow everything.
#pragma once

#include "pool/dma_mode.h"
#include "pool/selector.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace lanepool::pool {

// What somebody may do. Each may do what the ones before it may.
enum class Role {
    user,      // borrow, return, renew what is his tenant's; see his tenant's loans
    operator_, // drain, quarantine, restore, reset, reclaim, reassign anything; see everything
    admin,     // change the site
};

// Loans count against a tenant's share. The tenant "" is everybody's who has none.
struct Tenant {
    std::string name;
    uint32_t share = 1;      // 1 to 1000: relative to the other tenants'
    uint32_t most_loans = 0; // live at once; 0: no limit

    bool operator==(const Tenant&) const = default;
};

struct User {
    std::string name; // of the machine's account, or of the certificate
    std::string tenant;
    Role role = Role::user;

    bool operator==(const User&) const = default;
};

struct HostRule {
    std::string name;
    // Where it is, outermost first, for example {"row 1", "rack 3", "switch 0"}: the fewer of these two hosts
    // share, the farther they are from each other.
    std::vector<std::string> location;
    bool lends = true;
    bool borrows = true;

    bool operator==(const HostRule&) const = default;
};

// A name for devices: those that any of its selectors selects.
struct DeviceClass {
    std::string name;
    std::vector<Selector> any_of;

    bool operator==(const DeviceClass&) const = default;
};

// Whom and what a rule is about. An empty list of names is everybody or everything, since the file has to say
// "*".
struct Rule {
    std::string name;
    std::vector<std::string> tenants;
    std::vector<std::string> users;
    std::vector<std::string> hosts; // that borrow
    std::vector<std::string> classes;

    bool allow = true;
    int64_t longest_s = 0;        // of a loan, counted anew by each renewal; 0: no limit
    int64_t default_s = 0;        // where the request names no duration; 0: no due time
    uint32_t most_loans = 0;      // of one tenant under this rule, live at once; 0: no limit
    int32_t priority = 0;         // -1000 to 1000: what a request gets that asks for none
    int32_t highest_priority = 0; // that a request may ask for; at least `priority`
    bool preempts = false;        // may take devices from pre-emptible loans of a lower priority
    bool preemptible = false;
    int64_t grace_s =
        60; // that a pre-empted or expired loan has, after its warning, before its guest is asked to let go
    bool sanitize = true;             // erase after the loan; false: the reset is enough
    bool needs_iommu = false;         // the lender isolates the device by an IOMMU
    bool needs_qualification = false; // the device has a stored qualification
    // In which a host may borrow with its own kernel: the first that it offers is taken unless the request
    // names another. Direct is not among them unless somebody says so: it shows the device all memory.
    std::vector<DmaMode> dma{DmaMode::bounce, DmaMode::iommu};

    bool operator==(const Rule&) const = default;
};

enum class OnBorrowerCrash { reclaim, wait };   // at once, or after wait_s
enum class OnMissedDue { give_back, reclaim };  // ask the guest, then cut; or cut at once
enum class OnFailedReset { quarantine, retry }; // retry: `reset_retries` times, then quarantine

// What follows from failures, for devices of some classes. The first that names a device's class counts.
struct FailureRule {
    std::vector<std::string> classes; // empty: all
    OnBorrowerCrash on_borrower_crash = OnBorrowerCrash::reclaim;
    int64_t wait_s = 0;
    OnMissedDue on_missed_due = OnMissedDue::give_back;
    OnFailedReset on_failed_reset = OnFailedReset::quarantine;
    uint32_t reset_retries = 0; // 1 to 10 where it is retried

    bool operator==(const FailureRule&) const = default;
};

// Times of a week, by a fixed offset to UTC.
struct Calendar {
    uint8_t days = 0;     // bit 0: Monday ... bit 6: Sunday; of the begin
    int32_t begin_s = 0;  // since midnight, 0 to 86399
    int32_t length_s = 0; // 1 to 7 * 86400: 18:00-06:00 is 12 hours from 18:00
    int32_t utc_offset_s = 0;

    bool operator==(const Calendar&) const = default;
};

struct Interval {
    int64_t begin_us = 0; // Unix time
    int64_t end_us = 0;

    bool operator==(const Interval&) const = default;
};

// COUNT devices of a class that are a tenant's, at these times. Others may have them before if they have to
// be back by then.
struct Reservation {
    std::string name;
    std::string tenant;
    std::string device_class;
    uint32_t count = 1;
    std::optional<Calendar> weekly; // one of these two
    std::optional<Interval> once;

    bool operator==(const Reservation&) const = default;
};

struct Site {
    std::vector<Tenant> tenants;
    std::vector<User> users;
    std::vector<HostRule> hosts;
    std::vector<DeviceClass> classes;
    std::vector<Rule>
        rules; // the first that fits a request and a device decides; none: refused, if there are rules
    std::vector<FailureRule> failures;
    std::vector<Reservation> reservations;
    int64_t warn_before_due_s = 300;

    bool operator==(const Site&) const = default;
};

// The interval of CALENDAR that UNIX_US lies in, or else the next one.
Interval next_interval(const Calendar& calendar, int64_t unix_us);

} // namespace lanepool::pool
