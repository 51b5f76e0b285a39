// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "host/workload.h"
#include "report/rows.h"

#include <map>
#include <memory>
#include <sys/types.h>

namespace lanepool::bench {

struct ComparisonOptions {
    uint64_t size_bytes = 0;
    io::Duration duration = std::chrono::seconds(1); // of each measurement
    int rounds = 5;
    int client_core = 0;
    int server_core = 1;
    pid_t server = 0; // whose processor time is counted; 0: nobody's
};

// Measures all systems in turn, in rounds. A ratio is formed within each round, as absolute figures drift; a
// round in which the ruler changed by more than 2x is discarded, and another is run in its place, at most as
// many again as were asked for.
class Comparison {
  public:
    Comparison(std::vector<std::unique_ptr<System>> systems, ComparisonOptions options)
        : systems_(std::move(systems)), options_(options) {}

    Result<> run();
    std::vector<Row> rows() const;

  private:
    struct Round {
        std::map<std::pair<std::string, uint32_t>, Measured> measured; // by system and depth
        std::map<std::pair<std::string, uint32_t>, double> server_cpu;
        std::vector<double> rulers_ns;
    };
    Result<Round> run_round(size_t number);
    Row ratio(const std::string& over, const std::string& under, uint32_t depth, bool latency,
              std::optional<Goal> goal) const;

    std::vector<std::unique_ptr<System>> systems_;
    ComparisonOptions options_;
    std::vector<Round> rounds_;
    int discarded_ = 0;
};

} // namespace lanepool::bench
