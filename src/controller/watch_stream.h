// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "api/lanepool.grpc.pb.h"
#include "controller/server_stream.h"

#include <functional>
#include <optional>

namespace lanepool::controller {

// One request that takes steps, and its progress until it is over. What a slow client has not read is
// replaced by what is true later, so nothing piles up.
class WatchStream final : public ServerStream<v1::Progress> {
  public:
    // Asks the pool, on the loop's thread, and hands on what is to be waited for when that is stored.
    using Answer = std::function<void(Result<Goal>)>;
    using Ask = std::function<void(Core& core, Answer answer)>;
    // ABOUT: the device or loan that is asked for, to find the holder of one that is busy.
    WatchStream(Seat& seat, std::string about, Ask ask)
        : ServerStream(seat), about_(std::move(about)), ask_(std::move(ask)) {}

    // What it waits for may have changed.
    void changed();

  private:
    void begin() override;
    void decided(const Result<Goal>& goal);
    void pump() override;
    void forget() override;
    std::string holder() const;

    const std::string about_;
    const Ask ask_;
    // On the loop's thread:
    std::optional<Goal> goal_;
    io::TimePoint began_{};
    std::string last_step_;
    std::optional<v1::Progress> next_;
    std::optional<grpc::Status> end_; // after the last message
};

} // namespace lanepool::controller
