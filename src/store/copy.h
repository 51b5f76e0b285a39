// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"
#include "store/store.h"

#include <functional>

namespace lanepool::store {

// Makes TO, which is empty, a copy of FROM, with its whole audit trail: both verify to the same head then.
// Nobody may write to either meanwhile. Interrupted, TO cannot be loaded and has to be thrown away.
// PROGRESS hears now and then how many entries of how many are copied. failed_precondition: TO is not empty.
// io: the trail of FROM does not verify.
Result<AuditCheck> copy(Store& from, Store& to,
                        const std::function<void(uint64_t done, uint64_t all)>& progress = {});

} // namespace lanepool::store
