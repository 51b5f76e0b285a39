// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"
#include "store/store.h"

namespace lanepool::store {

// Makes TO, which is empty, a copy of FROM, with its whole audit trail: both verify to the same head then.
// Nobody may write to either meanwhile. Interrupted, TO cannot be loaded and has to be thrown away.
// failed_precondition: TO is not empty. io: the trail of FROM does not verify.
Result<AuditCheck> copy(Store& from, Store& to);

} // namespace lanepool::store
