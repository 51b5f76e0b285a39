// SPDX-License-Identifier: Apache-2.0
//
// The process that a trial kills: this program again, which borrows a device and works on it.
#pragma once

#include "base/unique_fd.h"
#include "qualify/trial_bench.h"

#include <string>
#include <sys/types.h>

namespace lanepool::cli {

class BorrowerProcess final : public qualify::TrialBorrower {
  public:
    // Returns when it has written all of its blocks once (or, of what is no drive, has borrowed it). Errors:
    // what it has said when it failed; timeout.
    static Result<std::unique_ptr<BorrowerProcess>> start(uint64_t fdid, const std::string& agent,
                                                          uint64_t seed);
    ~BorrowerProcess() override;
    uint64_t blocks() const override { return blocks_; }
    Result<> kill() override;

  private:
    explicit BorrowerProcess(pid_t process) : process_(process) {}
    pid_t process_; // 0: has been waited for
    uint64_t blocks_ = 0;
};

// What that process does: works until it is killed, at latest with the process that has started it.
Result<int> work_until_killed(uint64_t fdid, const std::string& agent, uint64_t seed);

} // namespace lanepool::cli
