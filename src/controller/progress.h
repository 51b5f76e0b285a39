// SPDX-License-Identifier: Apache-2.0
//
// How far a request has come, from the records alone.
#pragma once

#include "api/lanepool.pb.h"
#include "pool/pool.h"

#include <optional>

namespace lanepool::controller {

// What somebody waits for: all of these loans to be active, one to be over, a device to be available, or to
// have so many functions.
struct Goal {
    enum class Kind { loans_active, loan_over, device_available, functions_set };
    Kind kind;
    std::vector<pool::LoanId> loans; // of the first two
    pool::Fdid fdid;                 // of the others
    uint32_t functions = 0;          // of the last
};

struct Standing {
    v1::Progress progress;      // done, when the goal is reached
    std::optional<Error> error; // it cannot be reached any more
    bool over() const { return progress.done() || error; }
};

Standing standing(const pool::Pool& pool, const Goal& goal);

// As clients see them.
v1::Device device_message(const pool::Pool& pool, const pool::Device& device);
v1::Loan loan_message(const pool::Pool& pool, const pool::Loan& loan);

} // namespace lanepool::controller
