// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "api/lanepool.grpc.pb.h"
#include "controller/core.h"

#include <deque>
#include <grpcpp/support/server_callback.h>
#include <memory>

namespace lanepool::controller {

// One connection of an agent.
class AgentStream final : public Stream,
                          public grpc::ServerBidiReactor<v1::AgentMessage, v1::ControllerMessage> {
  public:
    // Lives until gRPC is done with it. From gRPC's thread.
    static AgentStream* start(Core& core);

    void send(v1::ControllerMessage message);
    // Goes out before the next that is sent, or by itself with release_held().
    void hold(v1::ControllerMessage message) { held_.push_back(std::move(message)); }
    void release_held();
    void drop_held() { held_.clear(); }
    void close(const grpc::Status& status) override;
    io::TimePoint last_heard() const { return last_heard_; }

  private:
    explicit AgentStream(Core& core) : core_(core) {}
    void OnReadDone(bool ok) override;
    void OnWriteDone(bool ok) override;
    void OnDone() override;
    void read(bool ok);
    Result<> take();
    void pump();

    Core& core_;
    std::shared_ptr<AgentStream> self_; // until OnDone
    // On the loop's thread:
    std::string host_; // after its Hello
    io::TimePoint last_heard_{};
    v1::AgentMessage in_;
    v1::ControllerMessage out_;
    std::deque<v1::ControllerMessage> queue_;
    std::deque<v1::ControllerMessage> held_;
    bool writing_ = false;
    bool closed_ = false;
};

} // namespace lanepool::controller
