// SPDX-License-Identifier: Apache-2.0
//
// What the controller is told of faults. Whoever borrows a device can make as many as he likes: the first one
// of a loan is told at once, and those that follow together, now and then.
#pragma once

#include "io/event_loop.h"

#include <cstdint>
#include <functional>
#include <map>
#include <string>

namespace lanepool::agent {

struct FaultReport {
    std::string device;
    uint64_t loan_id = 0; // 0: none had it
    uint64_t epoch = 0;
    std::string text;   // of the first fault
    uint64_t count = 0; // how many it stands for
};

// On the loop's thread.
class FaultReports {
  public:
    static constexpr auto interval = std::chrono::seconds(10);

    // Returns whether it could be sent; else it is tried again later, together with what has come meanwhile.
    using Send = std::function<bool(const FaultReport&)>;
    FaultReports(io::EventLoop& loop, Send send) : loop_(loop), send_(std::move(send)) {}

    void add(const FaultReport& fault);

  private:
    struct OfDevice {
        FaultReport waiting; // count 0: nothing is
        io::EventLoop::Registration timer;
    };

    void send(OfDevice& device);
    void interval_over(const std::string& name);

    io::EventLoop& loop_;
    const Send send_;
    std::map<std::string, OfDevice> devices_; // that had a fault within the last interval
};

} // namespace lanepool::agent
