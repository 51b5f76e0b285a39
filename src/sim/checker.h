// SPDX-License-Identifier: Apache-2.0
//
// What has to hold at every step, whatever goes wrong: looked at whenever a device or a record changes, and
// all of it again every second.
#pragma once

#include "pool/records.h"
#include "sim/device.h"
#include "store/chain.h"

#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

namespace lanepool::sim {

class Checker {
  public:
    explicit Checker(World& world) : world_(world) {}

    void add(SimDevice& device) { by_name_[device.host() + "/" + device.name()] = {&device, {}, {}}; }

    // ---- Devices.
    void before_open(SimDevice& device, const agent::Opening& opening);
    void before_reset(const SimDevice& device);
    void before_home(const SimDevice& device);

    // ---- Records: OUTCOME is, or should be, on the controller's disk.
    void committed(const pool::Outcome& outcome);
    // A controller starts from STORED.
    void restarted(const pool::Snapshot& stored);
    // An agent starts, or writes: its disk knows of EPOCH.
    void agent_record(const SimDevice& device, uint64_t epoch);
    // Somebody was told that there is this loan.
    void promised(pool::LoanId loan) { promised_.insert(loan); }

    // All windows, and all devices' records.
    void look_at_everything();
    // After the faults have stopped and everybody has given back.
    void finally(size_t live_loans, size_t steps);
    bool all_at_rest() const;

  private:
    struct View {
        SimDevice* device = nullptr;
        pool::Device record; // as committed
        int64_t since_us = 0;
        uint64_t agent_epoch = 0;
    };
    struct LoanView {
        pool::LoanState state = pool::LoanState::queued;
        pool::Epoch epoch;
        pool::Fdid fdid;
        bool sanitize = true;
        bool shared = false;
        pool::DmaMode dma = pool::DmaMode::none;
        int64_t active_us = 0;
    };
    void check_windows(const View& view);
    void check_record(View& view, const pool::Device& record);
    void check_own_host(const View& view, const pool::Device& record);
    static bool is_at_rest(const View& view);
    void check_loan(const pool::Loan& loan);
    void check_stayed(const pool::Loan& loan, const LoanView& before);
    void check_erased(pool::LoanId id);
    void check_entry(const pool::AuditEntry& entry);
    View* view_of(pool::Fdid fdid);

    World& world_;
    std::map<std::string, View> by_name_;
    std::vector<View*> by_fdid_;
    std::unordered_map<uint64_t, LoanView> loans_;
    std::map<pool::Fdid, pool::LoanId> holders_;
    std::map<std::string, int64_t> up_;                 // hosts, since when
    std::unordered_map<std::string, std::string> told_; // the last state that the trail says, by subject
    std::set<pool::LoanId> promised_;                   // and not over
    uint64_t last_sequence_ = 0;
};

} // namespace lanepool::sim
