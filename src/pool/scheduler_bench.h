// SPDX-License-Identifier: Apache-2.0
//
// For tests of the scheduler: records without a pool around them.
#pragma once

#include "pool/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

namespace lanepool::pool::testing {

// Hosts, devices and loans by hand; the scheduler hears of each change, as from the ledger's tables.
class Records {
  public:
    Records() = default;
    Records(const Records&) = delete;
    Records& operator=(const Records&) = delete;

    Scheduler scheduler{[this](const Loan& wish, const Device& device) -> Result<> {
                            if (check) return check(wish, device);
                            return {};
                        },
                        limits()};
    Scheduler::Check check;
    Now now{1'000'000, 1'700'000'000'000'000}; // a Tuesday, 22:13:20 UTC
    Site site;
    std::map<std::string, Host> hosts;
    std::map<Fdid, Device> devices;
    std::map<LoanId, Loan> loans;
    std::map<std::string, Usage> usage;
    uint64_t next_fdid = 0x80000;
    uint64_t next_loan = 1;

    static SchedulerLimits limits() {
        SchedulerLimits limits;
        limits.turnaround_us = 0;
        limits.setup_us = 0;
        return limits;
    }

    void add_host(const std::string& name, std::vector<std::string> location = {},
                  uint32_t windows_free = 64) {
        HostRule rule;
        rule.name = name;
        rule.location = std::move(location);
        site.hosts.push_back(rule);
        scheduler.set_site(site);
        Host host;
        host.name = name;
        host.up = true;
        host.windows = 64;
        host.windows_free = windows_free;
        scheduler.note(hosts[name] = host, true);
    }
    template <class Change>
    void change_host(const std::string& name, Change&& change) {
        scheduler.note(hosts.at(name), false);
        change(hosts.at(name));
        scheduler.note(hosts.at(name), true);
    }

    Fdid add_device(const std::string& host, const std::string& kind = "nvme", uint64_t capacity = 1000) {
        Device device;
        device.fdid = {next_fdid++};
        device.host = host;
        device.name = fmt::format("{}{}", kind, device.fdid);
        device.identity.kind = kind;
        device.identity.model = kind + " model";
        device.identity.capacity_bytes = capacity;
        device.state = DeviceState::available;
        device.clean = true;
        scheduler.note(devices[device.fdid] = device, true);
        return device.fdid;
    }
    template <class Change>
    void change_device(Fdid fdid, Change&& change) {
        scheduler.note(devices.at(fdid), false);
        change(devices.at(fdid));
        scheduler.note(devices.at(fdid), true);
    }

    // A wish as the pool would record it; queue() it.
    Loan wish(const std::string& borrower, const std::string& kind = "nvme") {
        Loan loan;
        loan.id = {next_loan++};
        loan.group = loan.id;
        loan.borrower = borrower;
        loan.wanted.kind = kind;
        loan.created_us = now.unix_us;
        return loan;
    }
    LoanId queue(const Loan& loan) {
        scheduler.note(loans[loan.id] = loan, true);
        return loan.id;
    }
    LoanId queue_group(std::vector<Loan> wishes) {
        for (auto& wish : wishes) {
            wish.group = wishes.front().id;
            queue(wish);
        }
        return wishes.front().id;
    }
    template <class Change>
    void change_loan(LoanId id, Change&& change) {
        scheduler.note(loans.at(id), false);
        change(loans.at(id));
        scheduler.note(loans.at(id), true);
    }
    void erase_loan(LoanId id) {
        scheduler.note(loans.at(id), false);
        loans.erase(id);
    }

    // A queued wish becomes an active loan of that device.
    void start(const Start& start) {
        change_loan(start.loan, [&](Loan& loan) {
            loan.state = LoanState::active;
            loan.fdid = start.fdid;
            loan.reservation = start.reservation;
            loan.active_us = now.unix_us;
            if (loan.duration_s > 0) loan.due_us = now.unix_us + loan.duration_s * 1'000'000;
        });
        change_device(start.fdid, [&](Device& device) {
            device.state = DeviceState::lent;
            device.loan = start.loan;
        });
    }
    // An active loan from the beginning.
    LoanId lend(Fdid fdid, Loan loan) {
        queue(loan);
        start({loan.id, fdid, ""});
        return loan.id;
    }
    void end(LoanId id) {
        const Fdid fdid = loans.at(id).fdid;
        erase_loan(id);
        change_device(fdid, [](Device& device) {
            device.state = DeviceState::available;
            device.loan = {};
        });
    }
    Decision decide() { return scheduler.decide(now); }
    // Carries out what is decided.
    Decision serve() {
        Decision decision = decide();
        for (const Start& one : decision.starts)
            start(one);
        for (const Preemption& one : decision.preemptions)
            change_loan(one.victim, [&](Loan& loan) { loan.preempted_by = one.winner; });
        return decision;
    }
    void pass_s(int64_t seconds) {
        now.unix_us += seconds * 1'000'000;
        now.steady_us += seconds * 1'000'000;
    }
    std::string why(const Decision& decision, LoanId group) {
        for (const auto& waiting : decision.waiting)
            if (waiting.group == group) return waiting.why;
        return {};
    }
};

// Which device each served wish gets.
inline std::map<LoanId, Fdid> given(const Decision& decision) {
    std::map<LoanId, Fdid> result;
    for (const auto& start : decision.starts)
        result[start.loan] = start.fdid;
    return result;
}

// Two borrowers, and a lender that is nearer to one of them.
class SchedulerTest : public ::testing::Test, protected Records {
  protected:
    SchedulerTest() {
        add_host("store", {"row 1", "rack 1"});
        add_host("a", {"row 1", "rack 2"});
        add_host("b", {"row 2", "rack 3"});
    }
    Loan of(const std::string& tenant, int32_t priority = 0, const std::string& borrower = "a") {
        Loan loan = wish(borrower);
        loan.tenant = tenant;
        loan.priority = priority;
        return loan;
    }
};

} // namespace lanepool::pool::testing
