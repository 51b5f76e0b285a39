// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/mapping.h"
#include "base/result.h"

namespace lanepool::application {

inline constexpr uint64_t page_bytes = 4096;

// SIZE_BYTES of memory that a process gives, from the descriptor's first byte on. Errors: invalid_argument:
// no memfd, not sealed against shrinking (who maps it would be killed when it shrinks), sealed against
// writing, opened for reading only, or too small.
Result<MemoryRef> check_memory(UniqueFd fd, uint64_t size_bytes);

} // namespace lanepool::application
