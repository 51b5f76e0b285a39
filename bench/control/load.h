// SPDX-License-Identifier: Apache-2.0
//
// Requests to the controller, so many at a time, and how long each took.
#pragma once

#include "api/client.h"

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <vector>

namespace lanepool::bench {

struct Latencies {
    std::vector<double> each_us;
    double elapsed_s = 0;
    size_t refused = 0;

    double rate() const { return static_cast<double>(each_us.size()) / elapsed_s; }
    double percentile_us(double percent) const;
};

class Load {
  public:
    // Called when a request has been decided; OK: it was granted.
    using Decided = std::function<void(bool ok)>;
    // Makes request NUMBER; false: there are no more.
    using Make = std::function<bool(size_t number, Decided decided)>;

    // Keeps AT_A_TIME requests under way until MAKE has no more; returns when all are decided.
    static Latencies run(size_t at_a_time, const Make& make);
};

// Calls that count as decided when their first message, or their end, has come; the rest of the stream is
// given up.
void borrow(api::Client& client, v1::BorrowRequest request, Load::Decided decided);
void renew(api::Client& client, const std::string& loan, int64_t duration_s, Load::Decided decided);

} // namespace lanepool::bench
