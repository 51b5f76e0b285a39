// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"

#include <cstdint>

namespace lanepool::smartio {

// The highest epoch that a device has seen, kept where it survives the agent. Called on the lender's thread.
class EpochStore {
  public:
    virtual ~EpochStore() = default;
    virtual Result<uint64_t> highest() = 0; // 0: none yet
    // Returns once EPOCH is durable: what is done next at EPOCH depends on it.
    virtual Result<> raise(uint64_t epoch) = 0;
};

} // namespace lanepool::smartio
