// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "api/lanepool.grpc.pb.h"
#include "controller/peers.h"
#include "controller/seat.h"

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
    static AgentStream* start(Seat& seat, Result<Peer> peer);

    void welcome(const std::vector<pool::Fdid>& fdids) override;
    void send(const pool::Order& order) override;
    void close(const Error& why) override;
    void close(const grpc::Status& status) override;

  private:
    AgentStream(Seat& seat, Peer peer) : seat_(seat), peer_(std::move(peer)) {
        certificate = peer_.certificate;
    }
    void join();
    void OnReadDone(bool ok) override;
    void OnWriteDone(bool ok) override;
    void OnDone() override;
    void read(bool ok);
    Result<> take();
    void queue(v1::ControllerMessage message);
    void pump();

    Seat& seat_;
    const Peer peer_;
    std::shared_ptr<AgentStream> self_; // until OnDone
    // On the loop's thread:
    Core* core_ = nullptr; // that it is a stream of; it has closed the stream before it goes
    v1::AgentMessage in_;
    v1::ControllerMessage out_;
    std::deque<v1::ControllerMessage> queue_;
    bool writing_ = false;
    bool closed_ = false;
};

} // namespace lanepool::controller
