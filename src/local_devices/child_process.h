// SPDX-License-Identifier: Apache-2.0
//
// Work that the kernel may never finish is done in a process of its own, so that it costs a process, and not
// a thread of lanepool's that could then not even be killed.
#pragma once

#include "base/result.h"
#include "io/clock.h"

#include <chrono>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace lanepool::local_devices {

class ChildProcesses {
  public:
    // Writes TEXT to PATH in one write(2). Errors: timeout (also at once, while an earlier process is still
    // at the same), and what the system says.
    Result<> write(const std::string& path, const std::string& text, std::chrono::nanoseconds timeout);
    // Whether the first register behind PATH, a file of a BAR in sysfs, reads as all ones: nothing is there.
    // Errors: as above; io, where the access itself killed the process.
    Result<bool> reads_all_ones(const std::string& path, std::chrono::nanoseconds timeout);
    // Runs a program, found by its path, without input or output, and returns its exit status.
    Result<int> run(const std::vector<std::string>& arguments, std::chrono::nanoseconds timeout);

  private:
    Result<> check_stuck(const std::string& what);
    // What WORK, which makes system calls only, returns in a process of its own: 0 to 254.
    Result<int> in_child(const std::string& what, std::chrono::nanoseconds timeout,
                         const std::function<int()>& work);
    // Its exit status. Kills it when TIMEOUT has passed; one that even that does not end is kept in mind.
    Result<int> wait_for(int pid, const std::string& what, std::chrono::nanoseconds timeout);

    std::mutex mutex_;
    std::map<std::string, int> stuck_; // what they are at, and their process ids
};

} // namespace lanepool::local_devices
