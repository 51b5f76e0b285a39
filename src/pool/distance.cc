// SPDX-License-Identifier: Apache-2.0
#include "pool/distance.h"

#include <algorithm>

namespace lanepool::pool {

size_t shared_components(const Location& one, const Location& other) {
    const auto differ = std::mismatch(one.begin(), one.end(), other.begin(), other.end());
    return static_cast<size_t>(differ.first - one.begin());
}

size_t distance(const Location& near, const Location& other) {
    return near.size() - shared_components(near, other) + 1;
}

} // namespace lanepool::pool
