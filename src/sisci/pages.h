// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "sisci/outcome.h"

#include <cstddef>
#include <unistd.h>

namespace lanepool::sisci {

inline size_t page_size() {
    static const auto size = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    return size;
}

// SIZE, rounded up. Errors: NOSPC (nobody has so much).
inline Outcome<size_t> whole_pages(size_t size) {
    size_t rounded = (size + page_size() - 1) / page_size() * page_size();
    if (rounded < size) return failed(SCI_ERR_NOSPC);
    return rounded;
}

} // namespace lanepool::sisci
