// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "sim/options.h"

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace lanepool::sim {

// What came of several seeds.
class Report {
  public:
    explicit Report(SimOptions options) : options_(options) {}

    void add(const SeedResult& result);

    uint64_t seeds() const { return seeds_; }
    const SeedResult& total() const { return total_; }
    const std::vector<SeedResult>& failures() const { return failures_; }
    // The command that runs this seed again.
    std::string reproduce(uint64_t seed) const;
    // SECONDS: what it took.
    nlohmann::json json(double seconds) const;

  private:
    const SimOptions options_;
    uint64_t seeds_ = 0;
    SeedResult total_;
    std::vector<SeedResult> failures_; // the first ones
    uint64_t failed_ = 0;
};

} // namespace lanepool::sim
