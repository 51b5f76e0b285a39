// SPDX-License-Identifier: Apache-2.0
//
// The calls of lanepool.v1, each handed to the core. gRPC calls these on threads of its own.
#pragma once

#include "api/lanepool.grpc.pb.h"
#include "controller/trail_stream.h"
#include "controller/watch_stream.h"

namespace lanepool::controller {

class PoolService final : public v1::Pool::CallbackService {
  public:
    explicit PoolService(Core& core) : core_(core) {}

    grpc::ServerUnaryReactor* ListDevices(grpc::CallbackServerContext* context,
                                          const v1::ListRequest* request, v1::DeviceList* reply) override;
    grpc::ServerUnaryReactor* ListHosts(grpc::CallbackServerContext* context, const v1::ListRequest* request,
                                        v1::HostList* reply) override;
    grpc::ServerUnaryReactor* ListLoans(grpc::CallbackServerContext* context, const v1::ListRequest* request,
                                        v1::LoanList* reply) override;
    grpc::ServerUnaryReactor* Show(grpc::CallbackServerContext* context, const v1::ShowRequest* request,
                                   v1::ShowReply* reply) override;
    grpc::ServerWriteReactor<v1::Progress>* Borrow(grpc::CallbackServerContext* context,
                                                   const v1::BorrowRequest* request) override;
    grpc::ServerWriteReactor<v1::Progress>* Return(grpc::CallbackServerContext* context,
                                                   const v1::ReturnRequest* request) override;
    grpc::ServerWriteReactor<v1::Progress>* Reclaim(grpc::CallbackServerContext* context,
                                                    const v1::ReclaimRequest* request) override;
    grpc::ServerWriteReactor<v1::Progress>* Reassign(grpc::CallbackServerContext* context,
                                                     const v1::ReassignRequest* request) override;
    grpc::ServerWriteReactor<v1::Progress>* Reset(grpc::CallbackServerContext* context,
                                                  const v1::ResetRequest* request) override;
    grpc::ServerWriteReactor<v1::AuditEntry>* Events(grpc::CallbackServerContext* context,
                                                     const v1::EventsRequest* request) override;
    grpc::ServerWriteReactor<v1::AuditEntry>* Audit(grpc::CallbackServerContext* context,
                                                    const v1::AuditRequest* request) override;

  private:
    // FILL on the loop's thread; its status ends the call.
    grpc::ServerUnaryReactor* answer(grpc::CallbackServerContext* context,
                                     std::function<grpc::Status()> fill);
    grpc::ServerWriteReactor<v1::Progress>* watch(std::string about, WatchStream::Ask ask);
    grpc::ServerWriteReactor<v1::AuditEntry>* trail(TrailStream::Wish wish);

    Core& core_;
};

class AgentsService final : public v1::Agents::CallbackService {
  public:
    explicit AgentsService(Core& core) : core_(core) {}
    grpc::ServerBidiReactor<v1::AgentMessage, v1::ControllerMessage>*
    Connect(grpc::CallbackServerContext* context) override;

  private:
    Core& core_;
};

} // namespace lanepool::controller
