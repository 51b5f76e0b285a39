// SPDX-License-Identifier: Apache-2.0
#include "pool/ledger.h"

#include "pool/scheduler.h"

namespace lanepool::pool {

Ledger::Ledger(Scheduler& scheduler)
    : hosts([this](const Host& host, bool comes) { index(host, comes); }),
      devices([this](const Device& device, bool comes) { index(device, comes); }),
      loans([this](const Loan& loan, bool comes) { index(loan, comes); }),
      steps([this](const Step& step, bool comes) { index(step, comes); }),
      usage([this](const Usage& used, bool comes) { scheduler_.note(used, comes); }), scheduler_(scheduler) {}

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

void Ledger::index(const Host& host, bool comes) {
    scheduler_.note(host, comes);
    note_timer(host.borrower_grace_steady_us, Timer::Kind::borrower_grace, 0, host.name, comes);
    note_timer(host.lender_grace_steady_us, Timer::Kind::lender_grace, 0, host.name, comes);
}

void Ledger::index(const Device& device, bool comes) {
    scheduler_.note(device, comes);
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

void Ledger::index(const Loan& loan, bool comes) {
    scheduler_.note(loan, comes);
    if (has_ended(loan.state)) {
        const Ended key{loan.ended_audit, loan.ended_us, loan.id};
        if (comes)
            ended_.insert(key);
        else
            ended_.erase(key);
        return;
    }
    note(loans_by_borrower_, loan.borrower, loan.id, comes);
    note(loans_by_group_, loan.group, loan.id, comes);
    count(loans_by_tenant_, loan.tenant, comes);
    count(loans_by_rule_, std::pair(loan.tenant, loan.rule), comes);
    live_loans_ += comes ? 1 : -1;
    const auto timer = [&](int64_t steady_us, Timer::Kind kind) {
        note_timer(steady_us, kind, loan.id.value, {}, comes);
    };
    if (loan.state == LoanState::queued) {
        if (!loan.fdid) wishes_ += comes ? 1 : -1;
        return timer(loan.wait_until_steady_us, Timer::Kind::wait_over);
    }
    timer(loan.crash_steady_us, Timer::Kind::borrower_crash);
    // A loan that falls due before it is active ends when it gets there.
    if (loan.state != LoanState::active) return;
    timer(loan.due_steady_us, Timer::Kind::loan_due);
    if (!loan.warned) timer(loan.warn_steady_us, Timer::Kind::loan_warning);
}

void Ledger::index(const Step& step, bool comes) {
    note(steps_by_host_, step.host, step.id, comes);
    note(steps_by_device_, step.fdid, step.id, comes);
    note_timer(step.deadline_steady_us, Timer::Kind::step_deadline, step.id.value, {}, comes);
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
