// SPDX-License-Identifier: Apache-2.0
//
// For tests and fuzzers: what a store keeps, without one.
#pragma once

#include "pool/records.h"

#include <map>
#include <string>
#include <vector>

namespace lanepool::pool::testing {

// Without what is not stored.
inline Host stored(Host host) {
    host.up = false;
    host.borrower_grace_steady_us = host.lender_grace_steady_us = 0;
    return host;
}
inline Loan stored(Loan loan) {
    loan.due_steady_us = loan.warn_steady_us = loan.wait_until_steady_us = loan.crash_steady_us = 0;
    return loan;
}
inline Step stored(Step step) {
    step.sent_steady_us = step.deadline_steady_us = 0;
    return step;
}

class Disk {
  public:
    void apply(const Outcome& outcome) {
        for (const auto& host : outcome.hosts)
            hosts_[host.name] = stored(host);
        for (const auto& device : outcome.devices)
            devices_[device.fdid] = device;
        for (const auto& loan : outcome.loans)
            loans_[loan.id] = stored(loan);
        for (const auto& step : outcome.steps)
            steps_[step.id] = stored(step);
        for (const auto& used : outcome.usage)
            usage_[used.tenant] = used;
        if (outcome.site) site_ = *outcome.site;
        for (const auto id : outcome.erased_loans)
            loans_.erase(id);
        for (const auto id : outcome.erased_steps)
            steps_.erase(id);
        for (const auto fdid : outcome.erased_devices)
            devices_.erase(fdid);
        counters_ = outcome.counters;
        trail.insert(trail.end(), outcome.audit.begin(), outcome.audit.end());
    }

    Snapshot snapshot() const {
        Snapshot all;
        for (const auto& [key, host] : hosts_)
            all.hosts.push_back(host);
        for (const auto& [key, device] : devices_)
            all.devices.push_back(device);
        for (const auto& [key, loan] : loans_)
            all.loans.push_back(loan);
        for (const auto& [key, step] : steps_)
            all.steps.push_back(step);
        for (const auto& [key, used] : usage_)
            all.usage.push_back(used);
        all.site = site_;
        all.counters = counters_;
        return all;
    }

    std::vector<AuditEntry> trail;

  private:
    std::map<std::string, Host> hosts_;
    std::map<Fdid, Device> devices_;
    std::map<LoanId, Loan> loans_;
    std::map<StepId, Step> steps_;
    std::map<std::string, Usage> usage_;
    std::string site_;
    Counters counters_;
};

} // namespace lanepool::pool::testing
