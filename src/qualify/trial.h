// SPDX-License-Identifier: Apache-2.0
//
// The active half of a qualification: what is tried on a device. It takes the device out of use and erases
// it; afterwards the device is where it was found, in the pool or its own host's.
#pragma once

#include "io/clock.h"
#include "qualify/report.h"
#include "qualify/trial_bench.h"

#include <functional>
#include <optional>
#include <vector>

namespace lanepool::qualify {

struct TrialOptions {
    unsigned cycles = 5;           // how often it is assigned and released, and its driver bound again
    uint64_t load_bytes = 1 << 20; // of data that is written and read back
    uint64_t seed = 0;             // of the data; hand in a random one
    bool isolated = true;          // something keeps it from memory that is not mapped for it
    io::Duration recovery_limit = std::chrono::seconds(60); // of a loan's end, or its borrower's
};

class Trial {
  public:
    // Both must outlive it.
    Trial(TrialBench& bench, const io::Clock& clock, TrialOptions options)
        : bench_(bench), clock_(clock), options_(options) {}

    // Its checks, in the order in which they were made: assign_release, pool_reset, rebind, load, isolation,
    // recovery, left_as_found. Errors: failed_precondition (the device is neither available nor local),
    // cancelled, with what had to be left as it is.
    Result<std::vector<Check>> run();

  private:
    // What a check found, without its id. An error makes it failed.
    using Finding = Result<Check>;

    void check(const char* id, const char* remedy, const std::function<Finding()>& find);
    Finding assign_release();
    Finding reset();
    Finding rebind();
    Finding load();
    Finding isolation();
    Finding recovery();
    Finding erased(uint64_t blocks, uint64_t seed, std::string evidence);

    Result<> check_cancelled() const;
    // Waits for what the pool is doing, and brings a local device into the pool.
    Result<> make_available();
    Result<> wait_available(io::TimePoint deadline);
    Result<> leave_as_found();
    std::string seconds_since(io::TimePoint start) const;

    TrialBench& bench_;
    const io::Clock& clock_;
    const TrialOptions options_;
    bool was_local_ = false;
    bool overdue_ = false;
    std::string driver_; // that its own host had on it at first
    std::vector<Check> checks_;
};

} // namespace lanepool::qualify
