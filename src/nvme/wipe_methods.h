// SPDX-License-Identifier: Apache-2.0
//
// The steps of wipe(): each erases, or looks, by one means.
#pragma once

#include "nvme/driver.h"
#include "nvme/wipe.h"

namespace lanepool::nvme {

// What the steps of one wipe share.
struct WipeContext {
    Driver& driver;
    QueuePair& queue;
    const io::Clock& clock;
    const WipeOptions& options;
    WipeMethod method{};

    // Errors: timeout when the deadline has passed.
    Result<> check_deadline() const;
    io::Duration left() const {
        return std::max<io::Duration>(io::Duration{0}, options.deadline - clock.now());
    }
    void report(std::string_view step, double done) const;
};

// Keeps a queue filled with commands of which each must succeed. Commands that are left in flight by an early
// end are answered to nobody.
class Pipeline {
  public:
    Pipeline(WipeContext& wipe, std::string_view what) : wipe_(wipe), state_(std::make_shared<State>(what)) {}
    // Waits for room where there is none. Errors: that of an earlier command, and the queue's.
    Result<> add(const Command& command);
    // Until all are answered. Errors as above.
    Result<> finish();

  private:
    struct State {
        explicit State(std::string_view w) : what(w) {}
        std::string what;
        uint32_t in_flight = 0;
        std::optional<Error> error;
    };
    WipeContext& wipe_;
    std::shared_ptr<State> state_;
};

// A drive erases all of itself or refuses; when it has erased, it says so in its log. Errors:
// failed_precondition when the drive says that it failed; io when it refused to start.
Result<> sanitize(WipeContext& wipe, SanitizeAction action);
// Until no sanitize operation runs that somebody else has started.
Result<> wait_for_sanitize(WipeContext& wipe);
// Formats all namespaces in the format they have.
Result<> format_all(WipeContext& wipe, bool cryptographic);
// Every block of every namespace: by Write Zeroes, or by writes of a buffer of zeroes.
Result<> zero_all(WipeContext& wipe, bool by_command);

// Reads the samples; returns how many blocks they were. Errors: failed_precondition naming the first block
// that is not empty.
Result<uint64_t> verify_empty(WipeContext& wipe);

} // namespace lanepool::nvme
