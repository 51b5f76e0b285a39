// SPDX-License-Identifier: Apache-2.0
#include "sim/disk.h"

namespace lanepool::sim {

void Disk::sync() {
    for (const auto& outcome : unsynced_)
        write(outcome);
    unsynced_.clear();
}

void Disk::write_through(const pool::Outcome& outcome) {
    sync();
    write(outcome);
}

size_t Disk::crash() {
    const size_t lost = unsynced_.size();
    unsynced_.clear();
    return lost;
}

void Disk::write(const pool::Outcome& outcome) {
    for (const auto& host : outcome.hosts)
        hosts_[host.name] = host;
    for (const auto& device : outcome.devices)
        devices_[device.fdid] = device;
    for (const auto& loan : outcome.loans)
        loans_[loan.id] = loan;
    for (const auto& step : outcome.steps)
        steps_[step.id] = step;
    for (const auto& usage : outcome.usage)
        usage_[usage.tenant] = usage;
    for (const auto id : outcome.erased_loans)
        loans_.erase(id);
    for (const auto id : outcome.erased_steps)
        steps_.erase(id);
    for (const auto fdid : outcome.erased_devices)
        devices_.erase(fdid);
    if (outcome.site) site_ = *outcome.site;
    counters_ = outcome.counters;
    constexpr size_t piece = 1024;
    for (const auto& entry : outcome.audit) {
        if (trail_.empty() || trail_.back().size() == piece) trail_.emplace_back().reserve(piece);
        head_ = {entry.sequence, store::chained(head_.hash, entry)};
        trail_.back().push_back({entry, head_.hash});
    }
}

pool::Snapshot Disk::snapshot() const {
    pool::Snapshot all;
    for (const auto& [key, host] : hosts_)
        all.hosts.push_back(host);
    for (const auto& [key, device] : devices_)
        all.devices.push_back(device);
    for (const auto& [key, loan] : loans_)
        all.loans.push_back(loan);
    for (const auto& [key, step] : steps_)
        all.steps.push_back(step);
    for (const auto& [key, usage] : usage_)
        all.usage.push_back(usage);
    all.site = site_;
    all.counters = counters_;
    return all;
}

Result<store::AuditCheck> Disk::verify() const {
    store::ChainEnds ends;
    ends.head = head_;
    ends.next_sequence = counters_.next_audit;
    store::ChainCheck check(ends.start);
    for (const auto& piece : trail_)
        TRY(check.add(piece));
    return check.finish(ends);
}

} // namespace lanepool::sim
