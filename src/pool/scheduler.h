// SPDX-License-Identifier: Apache-2.0
//
// Which queued wishes get which devices now, which loans have to end for whom, and why the others wait. Pure
// and deterministic: the same records, site and times lead to the same decisions. docs/scheduling.md explains
// the order, backfill, reservations, pre-emption, and what each decision costs at most.
//
// A wish is a loan in state queued whose `fdid` is 0 and whose `wanted` is not empty; wishes with the same
// `group` get all of their devices in the same decision, or none. A queued loan that names an fdid waits for
// that device by a reassignment: the scheduler leaves it alone, and gives a device that has a successor to
// nobody.
#pragma once

#include "base/result.h"
#include "pool/records.h"
#include "pool/site.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace lanepool::pool {

// What one decision looks at and hands out at most; what is left over is looked at in the next one.
struct SchedulerLimits {
    size_t looks = 192;       // at queued groups, in their order
    size_t sweep_looks = 64;  // at those behind, where the looks did not suffice
    size_t candidates = 2048; // devices tried, for all groups together
    size_t candidates_per_wish = 64;
    size_t hosts_onwards = 256; // looked at where those candidates are all of no use
    size_t matchings = 4;       // of a group with its candidates, until reservations let it have all of them
    size_t starts = 256;        // wishes served
    size_t preemptions = 64;    // loans told to end
    size_t victims = 256;       // active loans looked at, for one group
    size_t shadows = 16;        // waiting groups whose earliest start is worked out, for backfill
    size_t returns = 256;       // due times counted for one reservation or one shadow
    size_t reasons = 16;        // texts
    // Who has been told why he waits is told again after so long at the soonest: the text, and its storing,
    // cost more than the look.
    int64_t tell_again_us = 0;
    // From a loan's due time to its device being available again: detach, cut, reset and sanitize at their
    // longest.
    int64_t turnaround_us = 240'000'000;
    // From a loan's start to its being active, when its duration begins: prepare and attach at their longest.
    int64_t setup_us = 80'000'000;
    // A device that is held counts as used for so long from the moment in which it is given, so that one
    // decision that serves many does not serve one tenant alone.
    int64_t counted_ahead_s = 60;
};

struct Start {
    LoanId loan;
    Fdid fdid;
    std::string reservation; // for Loan.reservation; empty: none

    bool operator==(const Start&) const = default;
};

struct Preemption {
    LoanId victim;
    LoanId winner; // for Loan.preempted_by: the `group` of the wishes that it has to end for

    bool operator==(const Preemption&) const = default;
};

struct Waiting {
    LoanId group;
    std::string why; // one line, for Loan.reason; the same for as long as nothing about it changes

    bool operator==(const Waiting&) const = default;
};

struct Decision {
    // All wishes of a group stand together. Start them all: the next decision counts on the records alone.
    std::vector<Start> starts;
    std::vector<Preemption> preemptions;
    std::vector<Waiting> waiting; // of those looked at and not served, the first ones
    // A limit was reached before everybody was looked at, or something was decided that others may profit
    // from: decide again soon, after other inputs.
    bool more = false;
    // When somebody who waits is to be told anew why, on the steady clock: decide again then.
    std::optional<int64_t> tell_again_steady_us;
};

// What would become of some wishes.
struct Placement {
    bool now = false;                     // they would all be served in this decision
    std::vector<Start> starts;            // by these, in the order of the wishes; empty if not `now`
    std::vector<Preemption> preemptions;  // what would have to end for them
    std::vector<std::string> why;         // a line for each thing that was decided or that stands in the way
    std::optional<int64_t> not_before_us; // Unix time before which it cannot be, going by due times
    size_t ahead = 0;                     // groups in the queue before it, if not `now`
};

class Scheduler {
  public:
    // Whether the rules that let a wish in also let it have this device (isolation, qualification, class).
    // Called for each candidate; must be quick, depend on nothing but its arguments and the site, and not
    // change records. The error's text tells the requester why not.
    using Check = std::function<Result<>(const Loan& wish, const Device& device)>;

    explicit Scheduler(Check check = {}, const SchedulerLimits& limits = {});
    ~Scheduler();
    Scheduler(const Scheduler&) = delete;
    Scheduler& operator=(const Scheduler&) = delete;

    // ---- What there is: to be called as Table calls its index, for each record that comes and goes, also
    // while undoing. The record stays where it is and as it is from its coming to its going. A change that
    // bypasses the table's index (Table::touch) has to be noted by hand, before and after, if it changes
    // up, windows, windows_free or draining of a host.
    void note(const Host& host, bool comes);
    void note(const Device& device, bool comes);
    void note(const Loan& loan, bool comes);
    void note(const Usage& usage, bool comes);
    // Whether one in the place of the other makes no difference to what was noted of it: then it need not be
    // noted, as long as it stays where it is.
    static bool same(const Host& one, const Host& other);
    static bool same(const Device& one, const Device& other);
    static bool same(const Loan& one, const Loan& other);
    // Takes effect with the next decision. Costs in proportion to all devices and wishes.
    void set_site(const Site& site);

    // ---- Decisions
    // Changes nothing: what it decides counts once the records say so. Call it after each input that changes
    // a host, device, loan or the site, and when next_change_us() has come.
    Decision decide(Now now);
    // What would become of WISHES, one request's, if they were queued now. They need borrower, tenant,
    // priority, wanted, rule, preempts, duration_s and near, as they would be recorded; id, group and
    // created_us are ignored. In Placement, `loan` is the index of the wish plus 1, and so is `winner`'s.
    // Without EXPLAINS `ahead` and `not_before_us` are left out, and of `why` what says no more than they do.
    Placement place(const std::vector<Loan>& wishes, Now now, bool explains = true);
    // What would become of a queued group, or why it waits. not `now` and empty for one that is none.
    Placement explain(LoanId group, Now now);
    // Whether a loan may have its device until DUE_US (Unix time; 0: for ever): not where a reservation needs
    // it before. For renewals. busy: the message says which; not_found: no live loan with a device.
    Result<> may_keep(LoanId loan, int64_t due_us, Now now);
    // Whether WISH may join those that share a device. busy: no windows are left, or a reservation needs it
    // before the wish would end; the message says which.
    Result<> may_join(const Loan& wish, Fdid fdid, Now now);
    // The next Unix time at which the passing of time alone changes something: a reservation begins or ends.
    // Nothing where there is none to come.
    std::optional<int64_t> next_change_us(Now now) const;

    // Of a tenant, in device-seconds, as fair sharing counts it now, running loans included.
    int64_t used_s(const std::string& tenant, Now now) const;

  private:
    class State;
    std::unique_ptr<State> state_;
};

} // namespace lanepool::pool
