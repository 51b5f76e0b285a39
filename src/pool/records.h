// SPDX-License-Identifier: Apache-2.0
//
// What the controller knows and keeps: plain values. Fields named *_steady_us are points on the steady clock
// of this run of the controller; they are not stored, and are made anew after a restart.
#pragma once

#include "pool/dma_mode.h"
#include "pool/ids.h"
#include "pool/selector.h"
#include "pool/state.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace lanepool::pool {

// Handed into every input: the pool has no clock. STEADY decides deadlines; UNIX is for records and due
// times.
struct Now {
    int64_t steady_us = 0;
    int64_t unix_us = 0;
};

struct Host {
    std::string name;
    bool up = false; // its agent is connected; never stored as such: after a restart nobody is
    uint32_t partition = 0;
    std::string instance; // of its agent: another one after each start
    std::string version;
    std::vector<std::string> guests;
    std::vector<DmaMode> dma_modes; // in which its own kernel can borrow; none: it cannot
    uint32_t windows = 0;
    uint32_t windows_free = 0;
    int64_t last_seen_us = 0;
    std::string draining; // why nothing new is borrowed by it or from it; empty: it is not
    // When the loans that it borrows, and those that it lends, are given up; 0 while it is up.
    int64_t borrower_grace_steady_us = 0;
    int64_t lender_grace_steady_us = 0;

    bool operator==(const Host&) const = default;
};

struct DeviceIdentity {
    uint32_t vendor_id = 0;
    uint32_t device_id = 0;
    uint32_t class_code = 0;
    std::string kind;
    std::string model;
    std::string serial;
    std::string firmware;
    uint64_t capacity_bytes = 0;

    bool operator==(const DeviceIdentity&) const = default;
};

struct Device {
    Fdid fdid;
    std::string host; // the lender
    std::string name; // the lender's name for it; people write HOST/NAME
    DeviceIdentity identity;
    DeviceState state = DeviceState::local;
    std::string reason;         // why it is recovering, quarantined or offline
    Epoch epoch;                // the highest that was ever given out for it
    LoanId loan;                // that holds it; of those that share it one that stays
    LoanId successor;           // queued for it by a reassignment
    std::string draining;       // why it is not lent any more; empty: it is
    bool kept_local = false;    // for its own host's use, until somebody restores it
    std::string condemned;      // why it is quarantined as soon as it is cut off; empty: it is not
    bool iommu = false;         // its host isolates it by an IOMMU
    bool qualified = false;     // there is a stored qualification of it
    uint32_t failed_resets = 0; // of the recovery that is under way, or was the last
    bool clean = false;         // false from each reservation until a reset and a sanitize have verified
    // Its own host has it, with a driver or without: it has to be taken before anything else is done with it.
    bool with_host = false;
    bool seen_with_host = false; // ever: its host can have it, and it is given back there
    std::string parent;          // of an SR-IOV function: the host's name for what it is a part of
    uint32_t functions = 0;      // SR-IOV functions that it has; while it has any it is not taken or lent
    uint32_t most_functions = 0;
    bool parent_changing = false; // how many functions its parent has: nobody gets it meanwhile
    bool gone = false;            // its host, when it was last heard, had it no more

    std::string full_name() const { return host + "/" + name; }
    bool operator==(const Device&) const = default;
};

struct StepTime {
    StepKind step = StepKind::prepare;
    int64_t duration_us = 0; // from the sending of the step to the arrival of its answer

    bool operator==(const StepTime&) const = default;
};

// Who uses the device at the borrower: the own driver of a guest, or of the host's kernel; or applications of
// the host. A lending loan of an SR-IOV function is called vf from when it has its device: nobody asks for it
// as such.
enum class AccessModel { lending, smartio, vf };
inline std::string_view name(AccessModel model) {
    switch (model) {
    case AccessModel::lending:
        return "lending";
    case AccessModel::smartio:
        return "smartio";
    case AccessModel::vf:
        return "vf";
    }
    return "unknown";
}
// To an operating system: a guest's, or the borrower's own.
inline bool is_to_system(AccessModel model) { return model != AccessModel::smartio; }
// The one of that name, if there is one.
inline std::optional<AccessModel> access_model(std::string_view text) {
    for (const AccessModel model : {AccessModel::lending, AccessModel::smartio, AccessModel::vf})
        if (name(model) == text) return model;
    return std::nullopt;
}

// A loan, from the request on: while it is queued it is a wish, and no device need be chosen yet.
struct Loan {
    LoanId id;
    Fdid fdid; // 0: queued, and any device that is wanted will do
    LoanId
        group; // the first loan of a request for several devices, of which it gets all or none; else its own
    Selector wanted;
    std::string near; // a host; empty: the borrower
    std::string borrower;
    std::string guest; // empty: the host's own kernel, or with smartio its applications
    AccessModel access_model = AccessModel::lending;
    bool shared = false; // smartio: others may have the device at the same time, if theirs are shared, too
    // To the host's own kernel: in this mode. While it is queued: the one that was asked for, none where the
    // policy is to choose.
    DmaMode dma = DmaMode::none;
    // What it got there; nothing until it is attached.
    uint64_t dma_bytes = 0; // of the pool, or of the addresses that mappings share
    std::string function;   // the host's address of it
    std::string driver;     // that has taken it; empty: none has
    LoanState state = LoanState::queued;
    Epoch epoch; // the device's when it was reserved for this loan
    std::string tenant;
    std::string requested_by;
    std::string rule;        // of the site, which let it in; empty: there was none
    std::string reservation; // whose devices it counts among; empty: none
    int32_t priority = 0;
    bool preempts = false;
    bool preemptible = false;
    bool sanitize = true;      // after it
    int64_t grace_s = 0;       // after a warning
    int64_t duration_s = 0;    // that was asked for, from its activation; 0: no due time
    int64_t wait_until_us = 0; // how long it may be queued, Unix time; 0: for ever
    int64_t due_us = 0;        // Unix time; 0: none
    bool warned = false;       // that it is due soon, or is being pre-empted
    LoanId preempted_by;       // for which it has to end
    bool failing = false;      // it will end as failed, not as returned
    std::string reason;        // why it ends as it does; while it is queued: why it is not served yet
    int64_t created_us = 0;
    int64_t active_us = 0; // 0: it never was
    int64_t ended_us = 0;
    uint64_t ended_audit =
        0; // the sequence of the entry of the trail that says how it has ended; 0: it has not
    std::vector<StepTime> steps;
    int64_t due_steady_us = 0;
    int64_t warn_steady_us = 0;
    int64_t wait_until_steady_us = 0;
    int64_t crash_steady_us =
        0; // when it is given up, its borrower's agent being away; 0: by the host's grace

    bool operator==(const Loan&) const = default;
};

// Whether it is for the driver of the borrower's own kernel: a loan for a guest names it.
inline bool is_to_own_kernel(const Loan& loan) {
    return is_to_system(loan.access_model) && loan.guest.empty();
}

// A step that an agent has been asked for and has not answered. Kept with the other records, so that a
// restarted controller asks for it again and knows its answer.
struct Step {
    StepId id;
    StepKind kind = StepKind::prepare;
    std::string host; // whose agent takes it
    LoanId loan;      // 0 where a device is recovered without one
    Fdid fdid;
    Epoch epoch;
    uint32_t deadline_ms = 0; // for the agent; ours is a little later
    // prepare and extend: after so long a lender that hears nothing more ends the loan by itself; 0: never.
    int64_t lease_ms = 0;
    bool suffices = false;  // reset: no sanitize follows; the device is clean once it has verified
    bool cleanup = false;   // nothing waits for it: a borrower that has been cut off is told to forget
    bool ask = false;       // detach: where somebody uses the device it stays, and the answer is busy
    uint32_t functions = 0; // set_functions: how many
    uint32_t sent = 0;      // how often
    int64_t sent_steady_us = 0;
    int64_t deadline_steady_us = 0;

    bool operator==(const Step&) const = default;
};

// Each entry names the hash of the one before it: none can be changed, taken out or put in unnoticed.
struct AuditEntry {
    uint64_t sequence = 0; // without a gap
    int64_t time_us = 0;
    std::string actor;
    std::string subject;
    std::string action;
    std::string from;
    std::string to;
    std::string reason;
    Fdid fdid;
    LoanId loan;
    Epoch epoch;

    bool operator==(const AuditEntry&) const = default;
};

// How much a tenant has had: device-seconds, halved every day, for fair shares.
struct Usage {
    std::string tenant;
    int64_t used_s = 0;
    int64_t at_us = 0; // Unix time of that figure

    bool operator==(const Usage&) const = default;
};

struct Counters {
    Fdid next_fdid = first_fdid;
    LoanId next_loan{1};
    StepId next_step{1};
    uint64_t next_audit = 1;

    bool operator==(const Counters&) const = default;
};

// Everything but the audit trail, as a store gives it back.
struct Snapshot {
    std::vector<Host> hosts;
    std::vector<Device> devices;
    std::vector<Loan> loans;
    std::vector<Step> steps;
    std::vector<Usage> usage;
    std::string site; // the text of the site file; empty: none
    Counters counters;
};

// A step with everything that its agent needs to know.
struct Order {
    Step step;
    std::string device; // the lender's name for it; empty where the device is not known
    uint32_t lender_partition = 0;
    uint32_t borrower_partition = 0; // of the loan; 0 without one
    std::string guest;
    AccessModel access_model = AccessModel::lending; // of the loan
    bool shared = false;
    DmaMode dma = DmaMode::none; // of the loan: to the host's own kernel, in this mode
};

// What inputs have changed: to be stored in one transaction, and only then to be acted upon.
struct Outcome {
    std::vector<Host> hosts;
    std::vector<Device> devices;
    std::vector<Loan> loans;
    std::vector<Step> steps;
    std::vector<LoanId> erased_loans;
    std::vector<StepId> erased_steps;
    std::vector<Fdid> erased_devices;
    std::vector<Usage> usage;
    std::optional<std::string> site; // a new text of the site file
    Counters counters;
    std::vector<AuditEntry> audit;
    std::vector<Order> orders; // to be sent after storing

    bool empty() const {
        return hosts.empty() && devices.empty() && loans.empty() && steps.empty() && erased_loans.empty() &&
               erased_steps.empty() && erased_devices.empty() && usage.empty() && !site && audit.empty() &&
               orders.empty();
    }
};

} // namespace lanepool::pool
