// SPDX-License-Identifier: Apache-2.0
//
// For tests.
#pragma once

#include <chrono>
#include <thread>

namespace lanepool {

// Asks until CONDITION is true, for at most LIMIT; says whether it became so. What is waited for takes no
// time worth mentioning: the limit is for machines that have other things to do.
template <class Condition>
bool eventually(Condition&& condition, std::chrono::milliseconds limit = std::chrono::seconds(15)) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > end) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
}

} // namespace lanepool
