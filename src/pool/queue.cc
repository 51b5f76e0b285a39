// SPDX-License-Identifier: Apache-2.0
#include "pool/queue.h"

#include <algorithm>

namespace lanepool::pool {

Unit* Queue::find(LoanId group) {
    const auto found = units_.find(group);
    return found == units_.end() || found->second.row == nullptr ? nullptr : &found->second;
}

TenantEntry& Queue::tenant(const std::string& name) {
    TenantEntry& tenant = tenants_[name];
    if (tenant.name.empty()) tenant.name = name;
    return tenant;
}

int64_t Queue::used_s(const TenantEntry& tenant, int64_t now_us) const {
    int64_t used_s = tenant.running.held_s(now_us);
    if (tenant.usage != nullptr) used_s += decayed(tenant.usage->used_s, now_us - tenant.usage->at_us);
    return used_s;
}

void Queue::note(const Loan& wish, bool comes) {
    const LoanId group = wish.group ? wish.group : wish.id;
    Unit& unit = units_[group];
    unit.group = group;
    wishes_ += comes ? 1 : -1;
    if (comes)
        unit.wishes[wish.id] = &wish;
    else
        unit.wishes.erase(wish.id);
    if (!std::exchange(unit.dirty, true)) dirty_.push_back(group);
}

void Queue::note_held(const Loan& loan, bool comes) {
    TenantEntry& whose = tenant(loan.tenant);
    whose.held += comes ? 1 : -1;
    auto& under_rule = whose.held_by_rule[loan.rule];
    under_rule += comes ? 1 : -1;
    if (under_rule == 0) whose.held_by_rule.erase(loan.rule);
    if (loan.active_us == 0) return;
    if (comes)
        whose.running.add(loan.active_us);
    else
        whose.running.remove(loan.active_us);
}

void Queue::note(const Usage& usage, bool comes) { tenant(usage.tenant).usage = comes ? &usage : nullptr; }

void Queue::set_site(const Site& site) {
    for (auto& [name, tenant] : tenants_) {
        tenant.share = 1;
        tenant.most_loans = 0;
    }
    for (const auto& one : site.tenants) {
        TenantEntry& entry = tenant(one.name);
        entry.share = std::max<uint32_t>(1, one.share);
        entry.most_loans = one.most_loans;
    }
}

// A lane is awake if it is worth a look: something it wants is there, or may be made free for it, or it is of
// groups, which keep for themselves what is there of it.
void Queue::refresh(Lane& lane) {
    const bool awake = lane.wants.size() > 1 || lane.key.first || lane.wants.front()->live > 0;
    const bool listed = awake && !lane.lines.empty();
    const Age age = lane.lines.empty() ? Age() : lane.lines.begin()->first;
    if (listed == lane.is_listed && age == lane.listed) return;
    if (lane.is_listed) lane.bucket->awake.erase(lane.listed);
    if (listed) lane.bucket->awake[age] = &lane;
    lane.is_listed = listed;
    lane.listed = age;
}

void Queue::refresh(Line& line) {
    const bool listed = !line.able.empty();
    const Age age = line.able.empty() ? Age() : line.able.begin()->first;
    if (listed == line.is_listed && age == line.listed) return;
    if (line.is_listed) line.lane->lines.erase(line.listed);
    if (listed) line.lane->lines[age] = &line;
    line.is_listed = listed;
    line.listed = age;
    refresh(*line.lane);
}

// After its units or its borrower have changed. BEFORE: its oldest unit until then, under which it is listed
// if it was.
void Queue::refresh(Row& row, Age before, bool was_there) {
    if (was_there) {
        const auto found = row.line->able.find(before);
        if (found != row.line->able.end() && found->second == &row) row.line->able.erase(found);
    }
    if (row.borrower->borrows && !row.units.empty()) row.line->able[row.units.begin()->first] = &row;
    refresh(*row.line);
}

void Queue::leave(Unit& unit) {
    Row& row = *std::exchange(unit.row, nullptr);
    Line& line = *row.line;
    Bucket& bucket = *line.bucket;
    const Age before = row.units.begin()->first;
    row.units.erase(unit.age);
    bucket.ages.erase(unit.age);
    refresh(row, before, true);
    if (row.units.empty()) {
        row.borrower->rows.erase({&line, &row});
        line.rows.erase(row.borrower);
    }
    if (line.rows.empty()) {
        Lane& lane = *line.lane;
        for (Want* want : line.wants)
            market_.release(want);
        lines_.erase(Line::Key(line.key));
        if (--lane.users == 0) {
            for (Want* want : lane.wants) {
                want->lanes.erase(&lane);
                market_.release(want);
            }
            bucket.lanes.erase(Lane::Key(lane.key));
        }
    }
    if (bucket.ages.empty()) buckets_.erase({-bucket.priority, bucket.tenant->name});
}

void Queue::enter(Unit& unit, Line::Key key, HostEntry* borrower, Age age) {
    const auto [found, added] = lines_.try_emplace(key);
    Line& line = found->second;
    if (added) {
        line.key = key;
        const auto& whose = std::get<1>(key);
        Bucket& bucket = buckets_[{std::get<0>(key), whose}];
        bucket.priority = -std::get<0>(key);
        bucket.tenant = &tenant(whose);
        line.bucket = &bucket;
        for (const auto& [id, wish] : unit.wishes)
            line.wants.push_back(market_.use(wish->wanted));
        Lane::Key lane_key{std::get<bool>(key), std::get<std::vector<uint64_t>>(key)};
        Lane& lane = bucket.lanes[lane_key];
        if (lane.users++ == 0) {
            lane.bucket = &bucket;
            lane.key = std::move(lane_key);
            for (const auto& [id, wish] : unit.wishes) {
                lane.wants.push_back(market_.use(wish->wanted));
                lane.wants.back()->lanes.insert(&lane);
            }
        }
        line.lane = &lane;
    }
    Row& row = line.rows[borrower];
    row.line = &line;
    row.borrower = borrower;
    borrower->rows.insert({&line, &row});
    const bool was_there = !row.units.empty();
    const Age before = was_there ? row.units.begin()->first : Age();
    row.units[age] = &unit;
    unit.row = &row;
    unit.age = age;
    line.bucket->ages.insert(age);
    refresh(row, before, was_there);
}

void Queue::resolve(Unit& unit, std::vector<LoanId>& fresh) {
    if (unit.wishes.empty()) {
        if (unit.row != nullptr) leave(unit);
        for (Want* want : unit.wants)
            market_.release(want);
        units_.erase(unit.group);
        return;
    }
    const Loan& first = *unit.wishes.begin()->second;
    std::vector<Want*> wants;
    std::vector<uint64_t> numbers;
    for (const auto& [id, wish] : unit.wishes) {
        wants.push_back(market_.use(wish->wanted));
        numbers.push_back(wants.back()->number);
    }
    wants.swap(unit.wants);
    Line::Key key{-first.priority, first.tenant,       first.rule,        first.duration_s,
                  first.preempts,  std::move(numbers), first.access_model};
    HostEntry* borrower = market_.host(first.borrower);
    const Age age{first.created_us, unit.group};
    if (unit.row == nullptr || unit.row->line->key != key || unit.row->borrower != borrower ||
        unit.age != age) {
        if (unit.row != nullptr) leave(unit);
        enter(unit, std::move(key), borrower, age);
        fresh.push_back(unit.group);
    }
    for (Want* want : wants)
        market_.release(want);
}

void Queue::settle(std::vector<LoanId>& fresh) {
    for (HostEntry* host : market_.take_changed_hosts())
        for (const auto& [line, row] : host->rows)
            refresh(*row, row->units.begin()->first, true);
    for (Want* want : market_.take_woken_wants())
        for (Lane* lane : want->lanes)
            refresh(*lane);
    for (const LoanId group : std::exchange(dirty_, {})) {
        Unit& unit = units_[group];
        unit.dirty = false;
        resolve(unit, fresh);
    }
    for (Want* want : market_.take_woken_wants())
        for (Lane* lane : want->lanes)
            refresh(*lane);
}

bool Queue::is_unlimited(const Unit& unit, const std::map<std::string, uint32_t>& most_of_rule) const {
    const auto most = most_of_rule.find(unit.wishes.begin()->second->rule);
    return (most == most_of_rule.end() || most->second == 0) &&
           unit.row->line->bucket->tenant->most_loans == 0 && unit.row->borrower->room >= wishes_;
}

std::optional<std::vector<Unit*>> Queue::related(const Unit& unit,
                                                 const std::map<std::string, uint32_t>& most_of_rule) const {
    constexpr size_t most_units = 64;
    if (!is_unlimited(unit, most_of_rule)) return std::nullopt;
    std::map<Age, Unit*> found;
    std::set<const Want*> seen;
    std::vector<const Want*> left(unit.wants.begin(), unit.wants.end());
    const auto add = [&](const Row& row) {
        for (const auto& [age, other] : row.units) {
            if (age >= unit.age) break;
            if (found.size() > most_units || !is_unlimited(*other, most_of_rule)) return false;
            if (found.emplace(age, other).second)
                left.insert(left.end(), other->wants.begin(), other->wants.end());
        }
        return true;
    };
    while (!left.empty()) {
        const Want& want = *left.back();
        left.pop_back();
        if (!seen.insert(&want).second) continue;
        const DeviceEntry* device = want.fdid ? market_.find(*want.fdid) : nullptr;
        if (device == nullptr || device->listing.type == nullptr || !device->listing.classes.empty() ||
            device->listing.host->room < wishes_)
            return std::nullopt;
        const auto wants = market_.wants_by_fdid(*device);
        if (!wants) return std::nullopt;
        for (const Want* other : *wants)
            for (const Lane* lane : other->lanes)
                for (const auto& [line_age, line] : lane->lines)
                    for (const auto& [row_age, row] : line->able)
                        if (lane->is_listed && !add(*row)) return std::nullopt;
    }
    // Between tenants and priorities the order depends on all of them.
    if (!found.empty() && buckets_.size() > 1) return std::nullopt;
    std::vector<Unit*> units;
    for (const auto& [age, other] : found)
        units.push_back(other);
    return units;
}

size_t Queue::ahead_of(const Unit& unit) const {
    constexpr size_t most_counted = 1000;
    size_t ahead = 0;
    const Bucket& own = *unit.row->line->bucket;
    for (const auto& [key, bucket] : buckets_) {
        if (bucket.priority <= own.priority) break;
        ahead += bucket.ages.size();
    }
    size_t older = 0;
    for (auto age = own.ages.begin(); age != own.ages.end() && *age < unit.age && older < most_counted; ++age)
        ++older;
    return ahead + older;
}

} // namespace lanepool::pool
