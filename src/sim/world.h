// SPDX-License-Identifier: Apache-2.0
//
// What all parts of one simulation share.
#pragma once

#include "pool/ids.h"
#include "sim/options.h"
#include "sim/random.h"
#include "sim/timeline.h"

#include <fmt/format.h>

namespace lanepool::sim {

struct World {
    World(uint64_t seed, const SimOptions& with) : options(with), random(seed), harshness(seed % 4) {}

    bool without(Protection protection) const { return options.without == protection; }
    // Whether this fault happens now: with a probability of RATE in a million, more often in harsher seeds.
    bool fault(Fault fault, uint64_t rate) {
        if (!faults_on || !random.chance(rate * harshness)) return false;
        count(fault);
        return true;
    }
    void count(Fault fault) { ++result.faults[static_cast<size_t>(fault)]; }
    // The first thing that is wrong ends the seed.
    template <class... Args>
    void wrong(fmt::format_string<Args...> format, Args&&... args) {
        if (!result.failure.empty()) return;
        result.failure = fmt::format("at {:.6f} s: {}", static_cast<double>(timeline.now_us()) / 1e6,
                                     fmt::format(format, std::forward<Args>(args)...));
    }
    template <class... Args>
    void check(bool right, fmt::format_string<Args...> format, Args&&... args) {
        ++result.checks;
        if (!right) wrong(format, std::forward<Args>(args)...);
    }

    const SimOptions& options;
    Timeline timeline;
    Random random;
    const uint64_t harshness; // 0: nothing goes wrong
    bool faults_on = true;
    bool power_fails = false; // of the host that is being looked at
    SeedResult result;
};

} // namespace lanepool::sim
