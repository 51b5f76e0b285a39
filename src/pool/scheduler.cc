// SPDX-License-Identifier: Apache-2.0
#include "pool/scheduler.h"

#include "pool/pass.h"
#include "pool/reasons.h"

#include <algorithm>

namespace lanepool::pool {
namespace {

// Numbers of loans that place() makes up; nobody gets that far.
constexpr uint64_t made_up = uint64_t{1} << 63;

bool is_wish(const Loan& loan) {
    return loan.state == LoanState::queued && !loan.fdid && !loan.wanted.empty();
}

// States between which neither the market nor the queue makes a difference.
enum class Phase { queued, setting_up, active, ending, over };

Phase phase(LoanState state) {
    switch (state) {
    case LoanState::queued:
        return Phase::queued;
    case LoanState::reserved:
    case LoanState::preparing:
    case LoanState::attaching:
        return Phase::setting_up;
    case LoanState::active:
        return Phase::active;
    case LoanState::quiescing:
    case LoanState::detaching:
    case LoanState::resetting:
        return Phase::ending;
    case LoanState::returned:
    case LoanState::failed:
        return Phase::over;
    }
    return Phase::over;
}

} // namespace

class Scheduler::State {
  public:
    State(Check given, const SchedulerLimits& given_limits)
        : check(std::move(given)), limits(given_limits), market(reservations, given_limits.turnaround_us),
          queue(market) {}

    void settle() {
        market.settle();
        queue.settle(fresh);
    }
    Pass pass(Now now, bool explains) {
        return Pass({market, queue, reservations, most_of_rule, check, limits}, now, ++passes, explains);
    }
    Placement placement(Unit& unit, Now now, bool explains);
    std::string reason(const Unit& unit, const Look& look) const {
        std::string text;
        for (const auto& line : why_not(market, unit, look))
            text += (text.empty() ? "" : "; ") + line;
        return text;
    }

    const Check check;
    const SchedulerLimits limits;
    Reservations reservations;
    Market market;
    Queue queue;
    std::map<std::string, uint32_t> most_of_rule;
    std::vector<LoanId> fresh; // groups that have come since the last decision
    SweepCursor cursor;
    uint64_t passes = 0;
};

Scheduler::Scheduler(Check check, const SchedulerLimits& limits)
    : state_(std::make_unique<State>(std::move(check), limits)) {}
Scheduler::~Scheduler() = default;

void Scheduler::note(const Host& host, bool comes) { state_->market.note(host, comes); }
void Scheduler::note(const Device& device, bool comes) { state_->market.note(device, comes); }
void Scheduler::note(const Usage& usage, bool comes) { state_->queue.note(usage, comes); }

void Scheduler::note(const Loan& loan, bool comes) {
    if (is_wish(loan)) {
        state_->queue.note(loan, comes);
    } else if (loan.state != LoanState::queued && !has_ended(loan.state)) {
        state_->market.note(loan, comes);
        state_->queue.note_held(loan, comes);
        if (!loan.reservation.empty()) state_->reservations.note_served(loan.reservation, comes);
    }
}

bool Scheduler::same(const Host& one, const Host& other) {
    return one.name == other.name && one.up == other.up && one.windows == other.windows &&
           one.windows_free == other.windows_free && one.draining.empty() == other.draining.empty();
}

bool Scheduler::same(const Device& one, const Device& other) {
    return one.fdid == other.fdid && one.state == other.state && one.successor == other.successor &&
           one.draining.empty() == other.draining.empty() && one.kept_local == other.kept_local &&
           (one.functions == 0) == (other.functions == 0) && one.parent_changing == other.parent_changing &&
           one.host == other.host && one.name == other.name && one.identity == other.identity;
}

bool Scheduler::same(const Loan& one, const Loan& other) {
    return one.id == other.id && phase(one.state) == phase(other.state) && one.fdid == other.fdid &&
           one.group == other.group && one.borrower == other.borrower && one.tenant == other.tenant &&
           one.rule == other.rule && one.reservation == other.reservation && one.near == other.near &&
           one.wanted == other.wanted && one.priority == other.priority && one.preempts == other.preempts &&
           one.preemptible == other.preemptible && one.preempted_by == other.preempted_by &&
           one.duration_s == other.duration_s && one.due_us == other.due_us &&
           one.created_us == other.created_us && one.active_us == other.active_us;
}

void Scheduler::set_site(const Site& site) {
    state_->market.set_site(site);
    state_->queue.set_site(site);
    state_->most_of_rule.clear();
    for (const auto& rule : site.rules)
        state_->most_of_rule[rule.name] = rule.most_loans;
}

Decision Scheduler::decide(Now now) {
    State& state = *state_;
    state.settle();
    Pass pass = state.pass(now, false);
    pass.run(nullptr);
    pass.sweep(state.cursor);
    Decision decision;
    decision.starts = pass.starts();
    decision.preemptions = pass.preemptions();
    decision.more = pass.exhausted() || pass.unsettled();
    std::set<LoanId> told;
    for (const auto& start : decision.starts)
        told.insert(start.loan);
    for (const auto& [unit, look] : pass.waiting()) {
        told.insert(unit->group);
        const int64_t again_us = unit->told_steady_us + state.limits.tell_again_us;
        if (unit->told_steady_us != 0 && now.steady_us < again_us) {
            decision.tell_again_steady_us =
                std::min(again_us, decision.tell_again_steady_us.value_or(again_us));
            continue;
        }
        decision.waiting.push_back({unit->group, state.reason(*unit, look)});
        unit->told_steady_us = now.steady_us;
    }
    // Those that have just come and sleep hear why, too.
    for (const LoanId group : std::exchange(state.fresh, {})) {
        if (decision.waiting.size() >= 2 * state.limits.reasons) break;
        Unit* unit = state.queue.find(group);
        if (unit == nullptr || told.contains(group) || told.contains(unit->wishes.begin()->first)) continue;
        // One that could be served waits only for a look: there is nothing to say about it.
        if (const Look look = pass.look_only(*unit); look.starts.empty())
            decision.waiting.push_back({group, state.reason(*unit, look)});
    }
    return decision;
}

Placement Scheduler::State::placement(Unit& unit, Now now, bool explains) {
    Pass decision = pass(now, explains);
    const bool hopeless =
        !unit.wishes.begin()->second->preempts &&
        std::all_of(unit.wants.begin(), unit.wants.end(), [](const Want* want) { return want->live == 0; });
    if (hopeless)
        decision.run_related({}, unit);
    else if (const auto related = queue.related(unit, most_of_rule))
        decision.run_related(*related, unit);
    else
        decision.run(&unit);
    const Look& look = *decision.of_target();
    Placement placement;
    placement.now = look.fate == Look::Fate::served;
    placement.starts = look.starts;
    placement.preemptions = look.preemptions;
    if (placement.now) {
        placement.why = what_it_gets(market, unit, look);
        return placement;
    }
    placement.why = why_not(market, unit, look);
    if (!explains) return placement;
    placement.ahead = queue.ahead_of(unit);
    if (look.not_before_us && *look.not_before_us != never_us) placement.not_before_us = look.not_before_us;
    placement.why.push_back(
        placement.ahead == 0
            ? std::string("it is first in the queue")
            : fmt::format("{} ahead in the queue: those of a higher priority, and older ones "
                          "of tenant '{}'",
                          placement.ahead, unit.row->line->bucket->tenant->name));
    return placement;
}

Placement Scheduler::place(const std::vector<Loan>& wishes, Now now, bool explains) {
    State& state = *state_;
    if (wishes.empty()) return {};
    for (const Loan& wish : wishes)
        if (wish.wanted.empty())
            return {false, {}, {}, {"a wish has to say something about its device"}, std::nullopt, 0};
    std::vector<Loan> copies = wishes;
    for (size_t i = 0; i < copies.size(); ++i) {
        Loan& copy = copies[i];
        copy.state = LoanState::queued;
        copy.fdid = {};
        copy.id = {made_up + i};
        copy.group = {made_up};
        copy.created_us = now.unix_us;
        state.queue.note(copy, true);
    }
    state.settle();
    Placement placement = state.placement(*state.queue.find({made_up}), now, explains);
    for (Start& start : placement.starts)
        start.loan = {start.loan.value - made_up + 1};
    for (Preemption& preemption : placement.preemptions)
        preemption.winner = {1};
    for (const Loan& copy : copies)
        state.queue.note(copy, false);
    state.settle();
    std::erase_if(state.fresh, [](LoanId group) { return group.value >= made_up; });
    return placement;
}

Placement Scheduler::explain(LoanId group, Now now) {
    state_->settle();
    Unit* unit = state_->queue.find(group);
    return unit == nullptr ? Placement() : state_->placement(*unit, now, true);
}

Result<> Scheduler::may_keep(LoanId loan, int64_t due_us, Now now) {
    State& state = *state_;
    state.settle();
    const DeviceEntry* device = state.market.held_by(loan);
    if (device == nullptr) return fail(Errc::not_found, "loan:{} has no device", loan);
    const auto& listing = device->listing;
    const Loan& record = **std::find_if(device->loans.begin(), device->loans.end(),
                                        [&](const Loan* one) { return one->id == loan; });
    if (!record.reservation.empty()) return {};
    const int64_t turnaround_us = state.limits.turnaround_us;
    const auto verdict =
        state.reservations.ask(listing.classes, record.tenant, due_us == 0 ? never_us : due_us, false,
                               listing.counts_back ? listing.back_us + turnaround_us : never_us, {},
                               now.unix_us, turnaround_us, state.limits.returns);
    if (verdict.allowed) return {};
    return fail(Errc::busy, "{}", reservation_text(verdict));
}

Result<> Scheduler::may_join(const Loan& wish, Fdid fdid, Now now) {
    State& state = *state_;
    state.settle();
    const DeviceEntry* device = state.market.find(fdid);
    if (device == nullptr || device->listing.host == nullptr)
        return fail(Errc::not_found, "device {} is not known", fdid);
    const auto& listing = device->listing;
    for (const HostEntry* host : {state.market.host(wish.borrower), listing.host})
        if (host->room <= 0)
            return fail(Errc::busy, "host {} has none of its windows left; return something there first",
                        host->name);
    const int64_t turnaround_us = state.limits.turnaround_us;
    const int64_t end_us =
        wish.duration_s == 0 ? never_us : now.unix_us + state.limits.setup_us + wish.duration_s * 1'000'000;
    const auto verdict =
        state.reservations.ask(listing.classes, wish.tenant, end_us, false,
                               listing.counts_back ? listing.back_us + turnaround_us : never_us, {},
                               now.unix_us, turnaround_us, state.limits.returns);
    if (verdict.allowed) return {};
    return fail(Errc::busy, "{}", reservation_text(verdict));
}

std::optional<int64_t> Scheduler::next_change_us(Now now) const {
    return state_->reservations.next_change_us(now.unix_us);
}

int64_t Scheduler::used_s(const std::string& tenant, Now now) const {
    return state_->queue.used_s(state_->queue.tenant(tenant), now.unix_us);
}

} // namespace lanepool::pool
