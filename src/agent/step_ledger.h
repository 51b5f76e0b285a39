// SPDX-License-Identifier: Apache-2.0
//
// Which steps are under way, decided without doing them: a step that is asked for again while it runs is not
// begun twice, and its answer goes to the latest request. Steps themselves are idempotent, so one that is
// asked for again after it has ended is simply done again.
#pragma once

#include "api/lanepool.pb.h"

#include <cstdint>
#include <map>
#include <tuple>

namespace lanepool::agent {

class StepLedger {
  public:
    struct Key {
        uint64_t fdid = 0;
        uint64_t loan_id = 0;
        uint64_t epoch = 0;
        v1::StepKind kind = v1::STEP_UNSPECIFIED;
        auto operator<=>(const Key&) const = default;
    };
    static Key key_of(const v1::Step& step) {
        return {step.fdid(), step.loan_id(), step.epoch(), step.kind()};
    }

    // True: begin it. False: it is under way already, for an earlier request that this one replaces.
    bool begin(const v1::Step& step) { return !std::exchange(step_ids_[key_of(step)], step.step_id()); }

    // The step has ended: the id under which it is to be answered.
    uint64_t finish(const Key& key) {
        const auto node = step_ids_.extract(key);
        return node.empty() ? 0 : node.mapped();
    }

    size_t under_way() const { return step_ids_.size(); }

  private:
    std::map<Key, uint64_t> step_ids_; // bounded by the controller's devices times step kinds
};

} // namespace lanepool::agent
