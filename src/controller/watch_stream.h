// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "api/lanepool.grpc.pb.h"
#include "controller/core.h"

#include <functional>
#include <grpcpp/support/server_callback.h>
#include <memory>
#include <optional>

namespace lanepool::controller {

// One request that takes steps, and its progress until it is over. What a slow client has not read is
// replaced by what is true later, so nothing piles up.
class WatchStream final : public Stream, public grpc::ServerWriteReactor<v1::Progress> {
  public:
    // Asks the pool, on the loop's thread; what is to be waited for.
    using Ask = std::function<Result<Goal>(Core& core)>;
    // ABOUT: the device or loan that is asked for, to find the holder of one that is busy.
    static WatchStream* start(Core& core, std::string about, Ask ask);

    void changed();
    void close(const grpc::Status& status) override;

  private:
    WatchStream(Core& core, std::string about, Ask ask)
        : core_(core), about_(std::move(about)), ask_(std::move(ask)) {}
    void OnWriteDone(bool ok) override;
    void OnCancel() override;
    void OnDone() override;
    void begin();
    void pump();
    std::string holder() const;

    Core& core_;
    const std::string about_;
    const Ask ask_;
    std::shared_ptr<WatchStream> self_; // until OnDone
    // On the loop's thread:
    std::optional<Goal> goal_;
    io::TimePoint began_{};
    std::string last_step_;
    std::optional<v1::Progress> next_;
    std::optional<grpc::Status> end_; // after the last message
    v1::Progress out_;
    bool writing_ = false;
    bool closed_ = false;
};

} // namespace lanepool::controller
