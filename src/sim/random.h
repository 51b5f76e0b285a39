// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace lanepool::sim {

// SplitMix64 (Steele, Lea, Flood 2014): the same numbers from the same seed on every machine and library,
// which the distributions of <random> do not promise.
class Random {
  public:
    explicit Random(uint64_t seed) : state_(seed) {}

    uint64_t next() {
        uint64_t z = state_ += 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }
    // From 0 to BELOW - 1; BELOW must not be 0.
    uint64_t below(uint64_t limit) { return next() % limit; }
    int64_t between(int64_t least, int64_t most) {
        return least + static_cast<int64_t>(below(static_cast<uint64_t>(most - least) + 1));
    }
    // COUNT times in a MILLION.
    bool chance(uint64_t count) { return next() % 1'000'000 < count; }

  private:
    uint64_t state_;
};

} // namespace lanepool::sim
