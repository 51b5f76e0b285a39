// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "api/lanepool.grpc.pb.h"
#include "controller/core.h"
#include "controller/peers.h"

#include <deque>
#include <grpcpp/support/server_callback.h>
#include <memory>

namespace lanepool::controller {

// One connection of an agent.
class AgentStream final : public Stream,
                          public AgentLink,
                          public grpc::ServerBidiReactor<v1::AgentMessage, v1::ControllerMessage> {
  public:
    // Lives until gRPC is done with it. From gRPC's thread. PEER may speak for its own host only.
    static AgentStream* start(Core& core, Result<Peer> peer);

    void welcome(const std::vector<pool::Fdid>& fdids) override;
    void send(const pool::Order& order) override;
    void close(const Error& why) override;
    void close(const grpc::Status& status) override;

  private:
    AgentStream(Core& core, Peer peer) : core_(core), peer_(std::move(peer)) {}
    void OnReadDone(bool ok) override;
    void OnWriteDone(bool ok) override;
    void OnDone() override;
    void read(bool ok);
    Result<> take();
    void queue(v1::ControllerMessage message);
    void pump();

    Core& core_;
    const Peer peer_;
    std::shared_ptr<AgentStream> self_; // until OnDone
    // On the loop's thread:
    v1::AgentMessage in_;
    v1::ControllerMessage out_;
    std::deque<v1::ControllerMessage> queue_;
    bool writing_ = false;
    bool closed_ = false;
};

} // namespace lanepool::controller
