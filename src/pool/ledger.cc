// SPDX-License-Identifier: Apache-2.0
#include "pool/ledger.h"

#include "pool/scheduler.h"

#include <array>

namespace lanepool::pool {

Ledger::Ledger(Scheduler& scheduler)
    : hosts([this](const Host& host, bool comes, const Host* other) { index(host, comes, other); }),
      devices([this](const Device& device, bool comes, const Device* other) { index(device, comes, other); }),
      loans([this](const Loan& loan, bool comes, const Loan* other) { index(loan, comes, other); }),
      steps([this](const Step& step, bool comes, const Step* other) { index(step, comes, other); }),
      usage([this](const Usage& used, bool comes, const Usage*) { scheduler_.note(used, comes); }),
      scheduler_(scheduler) {}

template <class Key, class Value>
void Ledger::note(std::map<Key, std::set<Value>>& index, const Key& key, const Value& value, bool comes) {
    if (comes) {
        index[key].insert(value);
    } else if (const auto found = index.find(key); found != index.end()) {
        found->second.erase(value);
        if (found->second.empty()) index.erase(found);
    }
}

template <class Key>
void Ledger::count(std::map<Key, size_t>& counts, const Key& key, bool comes) {
    const auto found = counts.try_emplace(key, 0).first;
    found->second += comes ? 1 : -1;
    if (found->second == 0) counts.erase(found);
}

void Ledger::note_timer(int64_t steady_us, Timer::Kind kind, uint64_t id, const std::string& host,
                        bool comes) {
    if (steady_us == 0) return;
    if (comes)
        timers_.insert({steady_us, kind, id, host});
    else
        timers_.erase({steady_us, kind, id, host});
}

void Ledger::index(const Host& host, bool comes, const Host* other) {
    if (other == nullptr || !Scheduler::same(host, *other)) scheduler_.note(host, comes);
    if (host.up && (other == nullptr || !other->up || other->partition != host.partition))
        note(hosts_by_partition_, host.partition, host.name, comes);
    if (other == nullptr || other->borrower_grace_steady_us != host.borrower_grace_steady_us)
        note_timer(host.borrower_grace_steady_us, Timer::Kind::borrower_grace, 0, host.name, comes);
    if (other == nullptr || other->lender_grace_steady_us != host.lender_grace_steady_us)
        note_timer(host.lender_grace_steady_us, Timer::Kind::lender_grace, 0, host.name, comes);
}

void Ledger::index(const Device& device, bool comes, const Device* other) {
    if (other == nullptr || !Scheduler::same(device, *other)) scheduler_.note(device, comes);
    if (other == nullptr || other->identity != device.identity)
        note(devices_by_type_, type_key(device.identity), device.fdid, comes);
    if (other != nullptr && other->host == device.host && other->name == device.name &&
        other->identity.serial == device.identity.serial)
        return;
    note(devices_by_host_, device.host, device.fdid, comes);
    const auto identity = std::tuple(device.host, device.name, device.identity.serial);
    if (comes)
        devices_by_identity_[identity] = device.fdid;
    else
        devices_by_identity_.erase(identity);
    if (comes) {
        devices_by_name_[device.full_name()].insert(device.fdid);
    } else if (const auto found = devices_by_name_.find(device.full_name());
               found != devices_by_name_.end()) {
        found->second.erase(device.fdid);
        if (found->second.empty()) devices_by_name_.erase(found);
    }
}

void Ledger::index(const Loan& loan, bool comes, const Loan* other) {
    if (other == nullptr || !Scheduler::same(loan, *other)) scheduler_.note(loan, comes);
    index_timers(loan, comes, other);
    const auto has = [](const Loan& one) {
        return one.state == LoanState::queued || has_ended(one.state) ? Fdid() : one.fdid;
    };
    if (const Fdid fdid = has(loan); fdid && (other == nullptr || has(*other) != fdid))
        note(loans_by_device_, fdid, loan.id, comes);
    if (has_ended(loan.state)) {
        const auto key = [](const Loan& ended) { return Ended{ended.ended_audit, ended.ended_us, ended.id}; };
        if (other != nullptr && has_ended(other->state) && key(*other) == key(loan)) return;
        if (comes)
            ended_.insert(key(loan));
        else
            ended_.erase(key(loan));
        return;
    }
    const auto is_wish = [](const Loan& one) { return one.state == LoanState::queued && !one.fdid; };
    const bool both_live = other != nullptr && !has_ended(other->state);
    if (is_wish(loan) && !(both_live && is_wish(*other))) wishes_ += comes ? 1 : -1;
    if (both_live && other->borrower == loan.borrower && other->group == loan.group &&
        other->tenant == loan.tenant && other->rule == loan.rule)
        return;
    note(loans_by_borrower_, loan.borrower, loan.id, comes);
    note(loans_by_group_, loan.group, loan.id, comes);
    count(loans_by_tenant_, loan.tenant, comes);
    count(loans_by_rule_, std::pair(loan.tenant, loan.rule), comes);
    live_loans_ += comes ? 1 : -1;
}

void Ledger::index_timers(const Loan& loan, bool comes, const Loan* other) {
    using Times = std::array<std::pair<Timer::Kind, int64_t>, 4>; // 0: none
    const auto times = [](const Loan& of) {
        const bool queued = of.state == LoanState::queued;
        const bool held = !queued && !has_ended(of.state);
        // A loan that falls due before it is active ends when it gets there.
        const bool active = of.state == LoanState::active;
        return Times{{{Timer::Kind::wait_over, queued ? of.wait_until_steady_us : 0},
                      {Timer::Kind::borrower_crash, held ? of.crash_steady_us : 0},
                      {Timer::Kind::loan_due, active ? of.due_steady_us : 0},
                      {Timer::Kind::loan_warning, active && !of.warned ? of.warn_steady_us : 0}}};
    };
    const Times its = times(loan);
    const Times others = other == nullptr ? Times() : times(*other);
    for (size_t i = 0; i < its.size(); ++i)
        if (its[i].second != others[i].second)
            note_timer(its[i].second, its[i].first, loan.id.value, {}, comes);
}

void Ledger::index(const Step& step, bool comes, const Step* other) {
    if (other == nullptr || other->host != step.host) note(steps_by_host_, step.host, step.id, comes);
    if (other == nullptr || other->fdid != step.fdid) note(steps_by_device_, step.fdid, step.id, comes);
    if (other == nullptr || other->deadline_steady_us != step.deadline_steady_us)
        note_timer(step.deadline_steady_us, Timer::Kind::step_deadline, step.id.value, {}, comes);
}

const std::string* Ledger::host_at(uint32_t partition, const std::string& other_than) const {
    const auto found = hosts_by_partition_.find(partition);
    if (found == hosts_by_partition_.end()) return nullptr;
    for (const std::string& host : found->second)
        if (host != other_than) return &host;
    return nullptr;
}

// Whether devices of this type are what is wanted as far as the type tells: all of them, or none.
bool Ledger::is_of_type(const Selector& wanted, const std::set<Fdid>& of_a_type) const {
    Selector type = wanted;
    type.device.clear();
    type.host.clear();
    return type.empty() || selects(type, *devices.find(*of_a_type.begin()));
}

std::optional<Fdid> Ledger::device_of(const std::string& host, const std::string& name,
                                      const std::string& serial) const {
    const auto found = devices_by_identity_.find(std::tuple(host, name, serial));
    if (found == devices_by_identity_.end()) return std::nullopt;
    return found->second;
}

std::optional<Fdid> Ledger::device_named(std::string_view full_name) const {
    const auto found = devices_by_name_.find(full_name);
    if (found == devices_by_name_.end()) return std::nullopt;
    for (auto fdid = found->second.rbegin(); fdid != found->second.rend(); ++fdid)
        if (devices.find(*fdid)->state != DeviceState::offline) return *fdid;
    return *found->second.rbegin();
}

std::optional<LoanId> Ledger::oldest_ended() const {
    if (ended_.empty()) return std::nullopt;
    return std::get<LoanId>(*ended_.begin());
}

void Ledger::commit() {
    hosts.commit();
    devices.commit();
    loans.commit();
    steps.commit();
    usage.commit();
    committed_counters_ = counters;
}

void Ledger::rollback() {
    hosts.rollback();
    devices.rollback();
    loans.rollback();
    steps.rollback();
    usage.rollback();
    counters = committed_counters_;
}

} // namespace lanepool::pool
