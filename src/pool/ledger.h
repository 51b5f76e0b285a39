// SPDX-License-Identifier: Apache-2.0
//
// The records with everything that is derived from them: who is where, and what is due when. All changes
// since the last commit can be undone.
#pragma once

#include "pool/input.h"
#include "pool/records.h"
#include "pool/table.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

namespace lanepool::pool {

class Scheduler;

// Devices that no selector without a host or name can tell apart: kind, model, vendor, device and capacity.
using DeviceTypeKey = std::tuple<std::string, std::string, uint32_t, uint32_t, uint64_t>;
inline DeviceTypeKey type_key(const DeviceIdentity& identity) {
    return {identity.kind, identity.model, identity.vendor_id, identity.device_id, identity.capacity_bytes};
}

// Something that happens when nothing else does first. Exactly one of step, loan and host is meant.
struct Timer {
    enum class Kind {
        step_deadline,
        loan_due,
        loan_warning,
        wait_over,      // of a queued loan
        borrower_crash, // of a loan whose borrower's agent has been away for long
        borrower_grace,
        lender_grace
    };
    int64_t steady_us;
    Kind kind;
    uint64_t id;      // of the step or loan
    std::string host; // of the graces

    auto operator<=>(const Timer&) const = default;
};

class Ledger {
  public:
    // SCHEDULER, which must outlive it, is told of each record that comes and goes.
    explicit Ledger(Scheduler& scheduler);
    Ledger(const Ledger&) = delete;
    Ledger& operator=(const Ledger&) = delete;

    Table<std::string, Host> hosts;
    Table<Fdid, Device> devices;
    Table<LoanId, Loan> loans;
    Table<StepId, Step> steps;
    Table<std::string, Usage> usage;
    Counters counters;

    // Changes one record that is there.
    template <class Change>
    void change(const std::string& host, Change&& with) {
        hosts.change(host, with);
    }
    template <class Change>
    void change(Fdid fdid, Change&& with) {
        devices.change(fdid, with);
    }
    template <class Change>
    void change(LoanId loan, Change&& with) {
        loans.change(loan, with);
    }
    template <class Change>
    void change(StepId step, Change&& with) {
        steps.change(step, with);
    }

    std::optional<Fdid> device_of(const std::string& host, const std::string& name,
                                  const std::string& serial) const;
    // By HOST/NAME. Where a device was exchanged for another one of the same name: the one that is there.
    std::optional<Fdid> device_named(std::string_view full_name) const;
    // Copies: what is done with one of them changes the index.
    std::vector<Fdid> devices_of(const std::string& host) const { return copy(devices_by_host_, host); }
    // Calls VISIT(device) for each one that could be what is wanted, by its type and host, in the order of
    // their fdids, until it returns false. Costs nothing for the others.
    template <class Visit>
    void visit_devices(const Selector& wanted, Visit&& visit) const;
    std::vector<LoanId> live_loans_of(const std::string& borrower) const {
        return copy(loans_by_borrower_, borrower);
    }
    // Live ones that are not queued: of those that share it all.
    std::vector<LoanId> loans_on(Fdid fdid) const { return copy(loans_by_device_, fdid); }
    // Live ones of one request.
    std::vector<LoanId> live_loans_of_group(LoanId group) const { return copy(loans_by_group_, group); }
    std::vector<StepId> steps_of(const std::string& host) const { return copy(steps_by_host_, host); }
    std::vector<StepId> steps_for(Fdid fdid) const { return copy(steps_by_device_, fdid); }
    // Another host than this one that is up and says that it has this partition; null where there is none.
    const std::string* host_at(uint32_t partition, const std::string& other_than) const;
    bool lends(const std::string& host) const { return devices_by_host_.contains(host); }
    size_t live_loans() const { return live_loans_; }
    // Queued or held, of a tenant; of a tenant by a rule.
    size_t live_loans_of_tenant(const std::string& tenant) const { return count(loans_by_tenant_, tenant); }
    size_t live_loans_of_rule(const std::string& tenant, const std::string& rule) const {
        return count(loans_by_rule_, std::pair(tenant, rule));
    }
    // Queued for any device that will do.
    size_t wishes() const { return wishes_; }
    size_t ended_loans() const { return ended_.size(); }
    std::optional<LoanId> oldest_ended() const;
    // The next timer, if there is one.
    const Timer* next_timer() const { return timers_.empty() ? nullptr : &*timers_.begin(); }

    void commit();
    void rollback();

  private:
    template <class Key, class Value>
    static std::vector<Value> copy(const std::map<Key, std::set<Value>>& index, const Key& key) {
        const auto found = index.find(key);
        return found == index.end() ? std::vector<Value>()
                                    : std::vector<Value>(found->second.begin(), found->second.end());
    }
    template <class Key, class Value>
    static void note(std::map<Key, std::set<Value>>& index, const Key& key, const Value& value, bool comes);
    template <class Key>
    static size_t count(const std::map<Key, size_t>& counts, const Key& key) {
        const auto found = counts.find(key);
        return found == counts.end() ? 0 : found->second;
    }
    template <class Key>
    static void count(std::map<Key, size_t>& counts, const Key& key, bool comes);
    // By the order of the trail: a clock that is set back does not make the last one the oldest. The time and
    // the number are for loans that have ended before this was recorded.
    using Ended = std::tuple<uint64_t, int64_t, LoanId>;
    void note_timer(int64_t steady_us, Timer::Kind kind, uint64_t id, const std::string& host, bool comes);
    // As Table calls them.
    void index(const Host& host, bool comes, const Host* other);
    void index(const Device& device, bool comes, const Device* other);
    void index(const Loan& loan, bool comes, const Loan* other);
    void index(const Step& step, bool comes, const Step* other);
    bool is_of_type(const Selector& wanted, const std::set<Fdid>& of_a_type) const;
    void index_timers(const Loan& loan, bool comes, const Loan* other);

    Scheduler& scheduler_;
    Counters committed_counters_;
    std::map<uint32_t, std::set<std::string>> hosts_by_partition_; // those that are up
    std::map<std::string, std::set<Fdid>> devices_by_host_;
    std::map<std::string, std::set<Fdid>, std::less<>> devices_by_name_;
    std::map<DeviceTypeKey, std::set<Fdid>> devices_by_type_;
    std::map<std::tuple<std::string, std::string, std::string>, Fdid> devices_by_identity_;
    std::map<std::string, std::set<LoanId>> loans_by_borrower_; // live ones
    std::map<LoanId, std::set<LoanId>> loans_by_group_;         // live ones
    std::map<Fdid, std::set<LoanId>> loans_by_device_;          // live ones that are not queued
    std::map<std::string, size_t> loans_by_tenant_;
    std::map<std::pair<std::string, std::string>, size_t> loans_by_rule_;
    std::map<std::string, std::set<StepId>> steps_by_host_;
    std::map<Fdid, std::set<StepId>> steps_by_device_;
    std::set<Ended> ended_; // in the order of their ends
    std::set<Timer> timers_;
    size_t live_loans_ = 0;
    size_t wishes_ = 0;
};

template <class Visit>
void Ledger::visit_devices(const Selector& wanted, Visit&& visit) const {
    using Iterator = std::set<Fdid>::const_iterator;
    std::vector<std::pair<Iterator, Iterator>> ranges; // that have something left
    const auto add = [&](const std::set<Fdid>& fdids) { ranges.emplace_back(fdids.begin(), fdids.end()); };
    if (!wanted.host.empty()) {
        if (const auto found = devices_by_host_.find(wanted.host); found != devices_by_host_.end())
            add(found->second);
    } else {
        for (const auto& [key, fdids] : devices_by_type_)
            if (is_of_type(wanted, fdids)) add(fdids);
    }
    while (!ranges.empty()) {
        const auto first =
            std::min_element(ranges.begin(), ranges.end(),
                             [](const auto& one, const auto& other) { return *one.first < *other.first; });
        if (!visit(*devices.find(*first->first))) return;
        if (++first->first == first->second) ranges.erase(first);
    }
}

} // namespace lanepool::pool
