// SPDX-License-Identifier: Apache-2.0
#include "site/problems.h"

#include <algorithm>

namespace lanepool::site {

void Problems::add(Position at, std::string text) {
    ++count_;
    if (!full()) kept_.push_back({at, std::move(text)});
}

std::vector<Problem> Problems::sorted() const {
    auto result = kept_;
    std::ranges::stable_sort(result, {}, &Problem::at);
    return result;
}

} // namespace lanepool::site
