// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"

namespace lanepool {

// For what goes on after an error and answers with the first.
inline void keep_first(Result<>& first, Result<> next) {
    if (first && !next) first = std::move(next);
}

} // namespace lanepool
