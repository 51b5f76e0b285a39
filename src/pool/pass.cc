// SPDX-License-Identifier: Apache-2.0
#include "pool/pass.h"

#include <algorithm>

namespace lanepool::pool {

// Whose usage is the smaller for his share comes first; then whose next group is the older.
bool Pass::LaterTurn::operator()(const Turn* one, const Turn* other) const {
    const int64_t left = one->used_s * other->bucket->tenant->share;
    const int64_t right = other->used_s * one->bucket->tenant->share;
    return std::tuple(left, one->unit->age) > std::tuple(right, other->unit->age);
}

bool Pass::out_of_budget() const {
    return looks_ >= looks_allowed_ || tried_ >= tries_allowed_ || starts_.size() >= in_.limits.starts;
}

void Pass::run(Unit* target) {
    looks_allowed_ = in_.limits.looks;
    tries_allowed_ = in_.limits.candidates;
    const auto& buckets = in_.queue.buckets();
    for (auto bucket = buckets.begin(); bucket != buckets.end() && !exhausted_;) {
        std::vector<const Bucket*> of_priority;
        const int32_t priority = bucket->second.priority;
        for (; bucket != buckets.end() && bucket->second.priority == priority; ++bucket)
            if (!bucket->second.awake.empty()) of_priority.push_back(&bucket->second);
        run_priority(of_priority, target);
        if (target != nullptr && of_target_) return;
    }
    if (target == nullptr) return;
    tries_allowed_ = tried_ + in_.limits.candidates_per_wish * target->wishes.size();
    of_target_ = look(*target, true);
}

void Pass::run_related(const std::vector<Unit*>& before, Unit& target) {
    looks_allowed_ = in_.limits.looks;
    tries_allowed_ = in_.limits.candidates;
    for (Unit* unit : before)
        if (unit->row->given_up != number_ && unit->row->line->given_up != number_)
            take_a_look(*unit, nullptr);
    tries_allowed_ = tried_ + in_.limits.candidates_per_wish * target.wishes.size();
    of_target_ = look(target, true);
}

void Pass::run_priority(const std::vector<const Bucket*>& buckets, Unit* target) {
    std::vector<Turn> turns(buckets.size());
    std::priority_queue<Turn*, std::vector<Turn*>, LaterTurn> order;
    for (size_t i = 0; i < buckets.size(); ++i) {
        turns[i].bucket = buckets[i];
        const auto& tenant = *buckets[i]->tenant;
        const auto started = started_.find(&tenant);
        const int64_t held = tenant.held + (started == started_.end() ? 0 : started->second);
        turns[i].used_s =
            in_.queue.used_s(tenant, now_.unix_us) + std::max<int64_t>(0, held) * in_.limits.counted_ahead_s;
        Source source;
        source.lane = buckets[i]->awake.begin();
        source.age = source.lane->first;
        turns[i].sources.push(source);
        if (advance(turns[i])) order.push(&turns[i]);
    }
    while (!order.empty()) {
        if (out_of_budget()) {
            exhausted_ = true;
            return;
        }
        Turn& turn = *order.top();
        order.pop();
        const size_t before = starts_.size();
        take_a_look(*turn.unit, target);
        if (target != nullptr && of_target_) return;
        turn.used_s += static_cast<int64_t>(starts_.size() - before) * in_.limits.counted_ahead_s;
        if (advance(turn)) order.push(&turn);
    }
}

// Finds the next group of a tenant that is worth a look. The oldest group of a lane is that of its oldest
// line, and so on: from what is the oldest it goes straight down to that group, and what is beside it waits.
bool Pass::advance(Turn& turn) {
    const auto later = [&](Source& source, auto& at, const auto& all) {
        if (++at == all.end()) return;
        source.age = at->first;
        turn.sources.push(source);
    };
    while (!turn.sources.empty()) {
        Source source = turn.sources.top();
        turn.sources.pop();
        if (source.in_row == nullptr && source.in_line == nullptr && source.in_lane == nullptr) {
            Source lines;
            lines.in_lane = source.lane->second;
            lines.line = lines.in_lane->lines.begin();
            later(source, source.lane, turn.bucket->awake);
            source = lines;
        }
        if (source.in_lane != nullptr) {
            Source rows;
            rows.in_line = source.line->second;
            rows.row = rows.in_line->able.begin();
            later(source, source.line, source.in_lane->lines);
            source = rows;
        }
        if (source.in_line != nullptr) {
            if (source.in_line->given_up == number_) continue;
            Source units;
            units.in_row = source.row->second;
            units.unit = units.in_row->units.begin();
            later(source, source.row, source.in_line->able);
            source = units;
        }
        if (source.in_row->given_up == number_ || source.in_row->line->given_up == number_) continue;
        turn.unit = source.unit->second;
        later(source, source.unit, source.in_row->units);
        return true;
    }
    return false;
}

void Pass::take_a_look(Unit& unit, Unit* target) {
    ++looks_;
    Look result = look(unit, true);
    if (result.fate == Look::Fate::row) unit.row->given_up = number_;
    if (result.fate == Look::Fate::line) unit.row->line->given_up = number_;
    if (&unit == target)
        of_target_ = std::move(result);
    else if (result.fate != Look::Fate::served && waiting_.size() < in_.limits.reasons)
        waiting_.emplace_back(&unit, std::move(result));
}

// False where a limit was reached.
bool Pass::sweep_lane(const Lane& lane, SweepCursor& cursor) {
    const auto has_started = [&](const Unit& unit) {
        return std::any_of(starts_.begin(), starts_.end(),
                           [&](const Start& start) { return unit.wishes.contains(start.loan); });
    };
    for (auto line = lane.lines.lower_bound(cursor.line); line != lane.lines.end(); ++line) {
        if (line->first != cursor.line) cursor.row = {};
        cursor.line = line->first;
        const auto& rows = line->second->able;
        for (auto row = rows.lower_bound(cursor.row); row != rows.end(); ++row) {
            cursor.row = row->first;
            if (line->second->given_up == number_) break;
            if (row->second->given_up == number_) continue;
            if (out_of_budget()) return false;
            // Groups that were served above are still listed: the records have not changed yet.
            for (const auto& [age, unit] : row->second->units) {
                if (has_started(*unit)) continue;
                take_a_look(*unit, nullptr);
                break;
            }
        }
    }
    return true;
}

void Pass::sweep(SweepCursor& cursor) {
    if (!exhausted_) {
        cursor = {};
        return;
    }
    looks_allowed_ = looks_ + in_.limits.sweep_looks;
    tries_allowed_ = tried_ + in_.limits.candidates / 4;
    const size_t before = starts_.size() + preemptions_.size();
    const auto& buckets = in_.queue.buckets();
    for (auto bucket = buckets.lower_bound(cursor.bucket); bucket != buckets.end(); ++bucket) {
        if (bucket->first != cursor.bucket) cursor = {bucket->first, {}, {}, {}, cursor.useful};
        const auto& lanes = bucket->second.awake;
        for (auto lane = lanes.lower_bound(cursor.lane); lane != lanes.end(); ++lane) {
            if (lane->first != cursor.lane) cursor = {bucket->first, lane->first, {}, {}, cursor.useful};
            if (!sweep_lane(*lane->second, cursor)) {
                cursor.useful |= starts_.size() + preemptions_.size() > before;
                return;
            }
        }
    }
    cursor.useful |= starts_.size() + preemptions_.size() > before;
    if (!cursor.useful) exhausted_ = false; // everybody has been looked at, in vain
    cursor = {};
}

} // namespace lanepool::pool
