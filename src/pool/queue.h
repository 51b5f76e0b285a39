// SPDX-License-Identifier: Apache-2.0
//
// The demand side of the scheduler: queued groups of wishes in their order. Wishes that fare alike stand
// together, so that a decision looks at each kind of wish and not at each wish:
//   Bucket  a priority and a tenant
//   Lane    in a bucket: the same selectors
//   Line    in a lane: the same rule and duration
//   Row     in a line: the same borrower; its groups by age
// Lanes that nothing in the pool can serve now are asleep and cost a decision nothing.
#pragma once

#include "pool/fair_share.h"
#include "pool/market.h"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace lanepool::pool {

using Age = std::pair<int64_t, LoanId>; // created_us and the group: the oldest first

struct TenantEntry {
    std::string name;
    uint32_t share = 1;
    uint32_t most_loans = 0;
    const Usage* usage = nullptr;
    RunningLoans running;
    int64_t held = 0; // live loans that are not queued
    std::map<std::string, int64_t> held_by_rule;
};

struct Unit {
    LoanId group;
    std::map<LoanId, const Loan*> wishes;
    std::vector<Want*> wants; // of the wishes, in their order
    Row* row = nullptr;       // null: not in the queue
    Age age;
    bool dirty = false;
    int64_t told_steady_us = 0; // when somebody last heard why it waits
};

struct Row {
    Line* line = nullptr;
    HostEntry* borrower = nullptr;
    std::map<Age, Unit*> units;
    uint64_t given_up = 0; // the decision in which nothing more was to be had for it
};

struct Bucket;

struct Lane {
    using Key = std::pair<bool, std::vector<uint64_t>>; // whether it pre-empts, and the wants
    Bucket* bucket = nullptr;
    Key key;
    std::vector<Want*> wants;
    size_t users = 0;           // lines
    std::map<Age, Line*> lines; // with somebody who may borrow, by their oldest group
    bool is_listed = false;     // in the bucket's `awake`, under `listed`
    Age listed;
};

struct Line {
    // Priority (negative: the highest first), tenant, rule, duration, whether it pre-empts, wants, and for
    // what use: for guests the devices of their own host are of none.
    using Key =
        std::tuple<int32_t, std::string, std::string, int64_t, bool, std::vector<uint64_t>, AccessModel>;
    Key key;
    Bucket* bucket = nullptr;
    Lane* lane = nullptr;
    std::vector<Want*> wants;
    std::map<HostEntry*, Row> rows;
    std::map<Age, Row*> able; // those whose borrower may borrow, by their oldest group
    bool is_listed = false;   // in the lane's `lines`, under `listed`
    Age listed;
    uint64_t given_up = 0;    // as in Row
    std::string looked_until; // the host after which to go on where the nearest devices are of no use
};

struct Bucket {
    int32_t priority = 0;
    TenantEntry* tenant = nullptr;
    std::set<Age> ages; // of all its groups
    std::map<Lane::Key, Lane> lanes;
    std::map<Age, Lane*> awake; // lanes that can be served, by their oldest group
};

class Queue {
  public:
    explicit Queue(Market& market) : market_(market) {}
    Queue(const Queue&) = delete;
    Queue& operator=(const Queue&) = delete;

    // Queued wishes.
    void note(const Loan& wish, bool comes);
    // Live loans that are not queued.
    void note_held(const Loan& loan, bool comes);
    void note(const Usage& usage, bool comes);
    void set_site(const Site& site);
    // Works out what follows from the notes, and from what has changed in the market. Groups that are new, or
    // not what they were, are added to FRESH.
    void settle(std::vector<LoanId>& fresh);

    // The highest priority first, then by the tenant's name.
    const std::map<std::pair<int32_t, std::string>, Bucket>& buckets() const { return buckets_; }
    Unit* find(LoanId group);
    TenantEntry& tenant(const std::string& name);
    int64_t used_s(const TenantEntry& tenant, int64_t now_us) const;
    // Groups of a higher priority, and older ones of the same tenant and priority (counted up to 1000).
    size_t ahead_of(const Unit& unit) const;
    // The groups before this one of which what becomes of them can make a difference to it, the oldest first.
    // Nothing where that cannot be told: it is told where they want devices by their fdids, without limits or
    // reservations, and there are windows for everybody. MOST_OF_RULE: loans that a rule allows.
    std::optional<std::vector<Unit*>> related(const Unit& unit,
                                              const std::map<std::string, uint32_t>& most_of_rule) const;

  private:
    bool is_unlimited(const Unit& unit, const std::map<std::string, uint32_t>& most_of_rule) const;
    void resolve(Unit& unit, std::vector<LoanId>& fresh);
    void enter(Unit& unit, Line::Key key, HostEntry* borrower, Age age);
    void leave(Unit& unit);
    static void refresh(Lane& lane);
    static void refresh(Line& line);
    static void refresh(Row& row, Age before, bool was_there);

    Market& market_;
    std::map<std::string, TenantEntry> tenants_;
    std::map<LoanId, Unit> units_;
    std::vector<LoanId> dirty_;
    int64_t wishes_ = 0;
    std::map<Line::Key, Line> lines_;
    std::map<std::pair<int32_t, std::string>, Bucket> buckets_; // by the negative priority
};

} // namespace lanepool::pool
