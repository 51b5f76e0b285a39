// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/mapping.h"

namespace lanepool::vfio_user {

// Memory that a peer says lies at OFFSET_BYTES of a descriptor it sent. Checked as far as it can be: a file
// must be as long as that, so that nobody who maps it is killed by SIGBUS right away (one that is cut off
// later is another matter: who cares asks for seals). Errors: invalid_argument.
Result<MemoryRef> foreign_memory(SharedFd fd, uint64_t offset_bytes, uint64_t size_bytes);

} // namespace lanepool::vfio_user
