// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "pool/records.h"
#include "sim/world.h"
#include "store/chain.h"

#include <deque>
#include <map>
#include <vector>

namespace lanepool::sim {

// The disk of the controller: what apply() was given is there only after sync(); a crash loses the rest.
class Disk {
  public:
    void apply(const pool::Outcome& outcome) { unsynced_.push_back(outcome); }
    void sync();
    // Both, with everything from before.
    void write_through(const pool::Outcome& outcome);
    // How much was lost.
    size_t crash();

    pool::Snapshot snapshot() const;
    // Whether the trail is a chain from its first entry to its last, as any other store's.
    Result<store::AuditCheck> verify() const;

  private:
    void write(const pool::Outcome& outcome);

    std::deque<pool::Outcome> unsynced_;
    std::map<std::string, pool::Host> hosts_;
    std::map<pool::Fdid, pool::Device> devices_;
    std::map<pool::LoanId, pool::Loan> loans_;
    std::map<pool::StepId, pool::Step> steps_;
    std::map<std::string, pool::Usage> usage_;
    std::string site_;
    pool::Counters counters_;
    std::vector<std::vector<store::ChainedEntry>> trail_; // in pieces, none of them empty
    store::ChainEnd head_;
};

} // namespace lanepool::sim
