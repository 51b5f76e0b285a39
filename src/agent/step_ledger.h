// SPDX-License-Identifier: Apache-2.0
//
// Which steps are under way, decided without doing them: a step that is asked for again while it runs is not
// begun twice, and its answer goes to the latest request. Steps themselves are idempotent, so one that is
// asked for again after it has ended is simply done again. A detach that insists is another step than one
// that asks whether the device is in use: the answer to that question is none to it.
#pragma once

#include "pool/records.h"

#include <map>
#include <tuple>
#include <utility>

namespace lanepool::agent {

class StepLedger {
  public:
    struct Key {
        pool::Fdid fdid;
        pool::LoanId loan;
        pool::Epoch epoch;
        pool::StepKind kind = pool::StepKind::prepare;
        bool ask = false;
        auto operator<=>(const Key&) const = default;
    };
    static Key key_of(const pool::Step& step) {
        return {step.fdid, step.loan, step.epoch, step.kind, step.ask};
    }

    // True: begin it. False: it is under way already, for an earlier request that this one replaces.
    bool begin(const pool::Step& step) { return !std::exchange(step_ids_[key_of(step)], step.id); }

    // The step has ended: the id under which it is to be answered.
    pool::StepId finish(const Key& key) {
        const auto node = step_ids_.extract(key);
        return node.empty() ? pool::StepId{} : node.mapped();
    }

    size_t under_way() const { return step_ids_.size(); }

  private:
    std::map<Key, pool::StepId> step_ids_; // bounded by the controller's devices times step kinds
};

} // namespace lanepool::agent
