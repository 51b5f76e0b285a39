// SPDX-License-Identifier: Apache-2.0
//
// One decision: looks at the queue from the top, gives away devices, keeps for those that wait what they
// would be delayed without, and stops at its limits. Nothing outside of it changes but the marks of what it
// has given up, by its number.
#pragma once

#include "pool/candidates.h"
#include "pool/matching.h"
#include "pool/queue.h"
#include "pool/scheduler.h"

#include <map>
#include <optional>
#include <queue>
#include <set>
#include <string>
#include <vector>

namespace lanepool::pool {

// Where the sweep goes on.
struct SweepCursor {
    std::pair<int32_t, std::string> bucket{INT32_MIN, ""};
    Age lane;
    Age line;
    Age row;
    bool useful = false; // since it was at the beginning
};

// What stood in the way of devices that could be lent, and how often.
struct Obstacles {
    size_t own_host = 0;
    size_t taken = 0; // by this decision
    size_t no_room = 0;
    std::string full_host;
    size_t reserved = 0;
    Reservations::Verdict verdict; // the first
    size_t kept = 0;
    LoanId kept_for;
    size_t refused = 0;
    std::string refusal; // the first
    bool cut_short = false;

    size_t free_ones() const { return own_host + taken + no_room + reserved + kept + refused; }
};

struct Look {
    enum class Fate {
        served,
        unit, // this group waits; the next one may fare better
        row,  // and so do the others of this borrower
        line, // and so do all of the line
    };
    Fate fate = Fate::unit;
    std::vector<Start> starts;
    std::vector<size_t> distances; // of the starts
    std::vector<Preemption> preemptions;
    std::vector<LoanId> ending;       // loans that end for it already
    std::string blocked;              // by a limit, or by the state of the borrower: no device was looked for
    std::vector<Obstacles> obstacles; // by wish; of equal wishes the first one's
    std::vector<bool> matched;        // by wish: it would get one of those that can be lent
    std::optional<int64_t> not_before_us;
};

class Pass {
  public:
    struct Needs {
        Market& market;
        Queue& queue;
        const Reservations& reservations;
        const std::map<std::string, uint32_t>& most_of_rule; // loans of one tenant
        const Scheduler::Check& check;
        const SchedulerLimits& limits;
    };
    // EXPLAINS: works out more than the decision needs, for the one group that it is about.
    Pass(const Needs& needs, Now now, uint64_t number, bool explains)
        : in_(needs), now_(now), number_(number), explains_(explains) {}

    // Looks at all in order, or until TARGET has been looked at (which it is in any case).
    void run(Unit* target);
    // Looks at those BEFORE it, and at TARGET: the others make no difference to it.
    void run_related(const std::vector<Unit*>& before, Unit& target);
    // Looks at some of those for which the looks did not suffice.
    void sweep(SweepCursor& cursor);

    // The first ones of those that were looked at and not served, and TARGET.
    const std::vector<std::pair<Unit*, Look>>& waiting() const { return waiting_; }
    const std::optional<Look>& of_target() const { return of_target_; }
    const std::vector<Start>& starts() const { return starts_; }
    const std::vector<Preemption>& preemptions() const { return preemptions_; }
    bool exhausted() const { return exhausted_; }
    // What was given away hid from a group that waits when it could start: the next decision knows better.
    bool unsettled() const { return unsettled_; }
    // What stands in the way of a group that was not looked at; decides nothing.
    Look look_only(Unit& unit) { return look(unit, false); }

  private:
    // What a tenant's groups of one priority are drawn from, the oldest first.
    struct Source {
        Age age;
        std::map<Age, Lane*>::const_iterator lane;
        Lane* in_lane = nullptr;
        std::map<Age, Line*>::const_iterator line;
        Line* in_line = nullptr;
        std::map<Age, Row*>::const_iterator row;
        Row* in_row = nullptr;
        std::map<Age, Unit*>::const_iterator unit;
        bool operator<(const Source& other) const { return age > other.age; } // the oldest on top
    };
    struct Turn {
        const Bucket* bucket = nullptr;
        int64_t used_s = 0;
        Unit* unit = nullptr; // the next
        std::priority_queue<Source> sources;
    };
    struct LaterTurn {
        bool operator()(const Turn* one, const Turn* other) const;
    };
    struct Kept {
        int64_t until_us = 0; // who is back by then may have it
        LoanId owner;
    };
    // A group while it is looked at.
    struct Group {
        Unit& unit;
        std::vector<const Loan*> wishes;
        HostEntry* borrower;
        int64_t end_us;            // until it gives its devices back; never_us
        Reservations::Taken taken; // with what was accepted for it
        std::set<const DeviceEntry*> accepted;
        std::vector<std::vector<DeviceEntry*>> candidates; // by wish
        std::map<const DeviceEntry*, size_t> distances;
    };

    bool sweep_lane(const Lane& lane, SweepCursor& cursor);
    void run_priority(const std::vector<const Bucket*>& buckets, Unit* target);
    bool advance(Turn& turn);
    void take_a_look(Unit& unit, Unit* target);
    bool out_of_budget() const;

    Look look(Unit& unit, bool decide);
    std::string blocked(const Unit& unit, const Group& group, Look::Fate& fate) const;
    size_t match(Group& group, Look& look, Matching& matching);
    void collect(Group& group, size_t wish, Obstacles& obstacles);
    void collect_onwards(Group& group, size_t wish, Obstacles& obstacles);
    bool eligible(const Group& group, const Loan& wish, const DeviceEntry& device, bool free,
                  Obstacles& obstacles);
    Reservations::Verdict ask(const Group& group, const Loan& wish, const DeviceEntry& device,
                              bool free) const;
    int64_t room_for(const Group& group, const HostEntry& host) const;
    bool back_by(const Group& group, int64_t until_us) const;
    bool accept(Group& group, const Matching& matching, Look& look) const;
    void serve(Group& group, Look& look);
    void wait(Group& group, Look& look, const Matching& matching);
    void preempt(Group& group, Look& look, Matching& matching, bool may, bool decide);
    std::vector<std::tuple<int32_t, int64_t, LoanId, Fdid>> victims(const Group& group) const;
    int64_t earliest_us(const Group& group, const Look& look, const Matching& matching) const;
    std::vector<int64_t> soonest_back(const std::set<const Want*>& wants, size_t count,
                                      bool& cut_short) const;

    const Needs in_;
    const Now now_;
    const uint64_t number_;
    const bool explains_;
    size_t looks_ = 0;
    size_t looks_allowed_ = 0;
    size_t tried_ = 0;
    size_t tries_allowed_ = 0;
    size_t shadows_ = 0;
    bool exhausted_ = false;
    bool unsettled_ = false;
    std::set<Fdid> gone_; // given away, or to be taken back for somebody
    std::map<const HostEntry*, int64_t> used_;
    std::map<const HostEntry*, Kept> room_until_;
    std::map<const HostEntry*, int64_t> room_kept_;
    std::map<Fdid, Kept> kept_;
    std::map<const TenantEntry*, int64_t> started_;
    std::map<std::pair<const TenantEntry*, std::string>, int64_t> started_under_rule_;
    Reservations::Taken taken_;
    std::vector<Start> starts_;
    std::vector<Preemption> preemptions_;
    std::vector<std::pair<Unit*, Look>> waiting_;
    std::optional<Look> of_target_;
};

} // namespace lanepool::pool
