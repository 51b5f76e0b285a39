// SPDX-License-Identifier: Apache-2.0
//
// The calls of lanepool.v1, each handed to the core with who makes it, or answered with who leads. gRPC calls
// these on threads of its own.
#pragma once

#include "api/lanepool.grpc.pb.h"
#include "controller/peers.h"
#include "controller/trail_stream.h"
#include "controller/watch_stream.h"

namespace lanepool::controller {

class PoolService final : public v1::Pool::CallbackService {
  public:
    using Context = grpc::CallbackServerContext;
    template <class Message>
    using Writer = grpc::ServerWriteReactor<Message>;

    PoolService(Seat& seat, const Peers& peers) : seat_(seat), peers_(peers) {}

    // Also of a controller that does not lead, and at once: it does not wait for the loop's thread.
    grpc::ServerUnaryReactor* Leader(Context*, const v1::ListRequest*, v1::LeaderReply*) override;

    // ---- Looking.
    grpc::ServerUnaryReactor* ListDevices(Context*, const v1::ListRequest*, v1::DeviceList*) override;
    grpc::ServerUnaryReactor* ListHosts(Context*, const v1::ListRequest*, v1::HostList*) override;
    grpc::ServerUnaryReactor* ListLoans(Context*, const v1::ListRequest*, v1::LoanList*) override;
    grpc::ServerUnaryReactor* Show(Context*, const v1::ShowRequest*, v1::ShowReply*) override;
    grpc::ServerUnaryReactor* Explain(Context*, const v1::BorrowRequest*, v1::Explanation*) override;
    grpc::ServerUnaryReactor* GetSite(Context*, const v1::ListRequest*, v1::SiteReply*) override;
    grpc::ServerUnaryReactor* VerifyAudit(Context*, const v1::ListRequest*, v1::AuditVerification*) override;
    Writer<v1::AuditEntry>* Events(Context*, const v1::EventsRequest*) override;
    Writer<v1::AuditEntry>* Audit(Context*, const v1::AuditRequest*) override;

    // ---- Requests that take steps.
    Writer<v1::Progress>* Borrow(Context*, const v1::BorrowRequest*) override;
    Writer<v1::Progress>* Return(Context*, const v1::ReturnRequest*) override;
    Writer<v1::Progress>* Reclaim(Context*, const v1::ReclaimRequest*) override;
    Writer<v1::Progress>* Reassign(Context*, const v1::ReassignRequest*) override;
    Writer<v1::Progress>* Reset(Context*, const v1::ResetRequest*) override;
    Writer<v1::Progress>* Restore(Context*, const v1::RestoreRequest*) override;
    Writer<v1::Progress>* SetFunctions(Context*, const v1::SetFunctionsRequest*) override;

    // ---- Requests that are done when they are answered.
    grpc::ServerUnaryReactor* Renew(Context*, const v1::RenewRequest*, v1::Loan*) override;
    grpc::ServerUnaryReactor* Quarantine(Context*, const v1::QuarantineRequest*, v1::Done*) override;
    grpc::ServerUnaryReactor* KeepLocal(Context*, const v1::KeepLocalRequest*, v1::Done*) override;
    grpc::ServerUnaryReactor* Drain(Context*, const v1::DrainRequest*, v1::Done*) override;
    grpc::ServerUnaryReactor* ApplySite(Context*, const v1::ApplySiteRequest*, v1::Done*) override;

  private:
    // In each of these, PEER is who calls; where it is left out only people may.
    bool admit(Context* context, const Result<Peer>& peer);
    // FILL on the loop's thread, where we lead; its status ends the call.
    using Fill = std::function<grpc::Status(Core& core, const pool::Caller& caller)>;
    grpc::ServerUnaryReactor* answer(Context* context, const Result<Peer>& peer, Fill fill);
    grpc::ServerUnaryReactor* answer(Context* context, Fill fill) {
        return answer(context, peers_.person(*context), std::move(fill));
    }
    // The same for what changes something.
    template <class T>
    using Input = std::function<Result<T>(pool::Pool&, const pool::Caller&, pool::Now)>;
    template <class T>
    grpc::ServerUnaryReactor* decide(Context* context, const Result<Peer>& peer, Input<T> input,
                                     std::function<void(const Core&, const T&)> fill);
    template <class T>
    grpc::ServerUnaryReactor* decide(Context* context, Input<T> input,
                                     std::function<void(const Core&, const T&)> fill) {
        return decide<T>(context, peers_.person(*context), std::move(input), std::move(fill));
    }
    using Ask =
        std::function<void(Core& core, const pool::Caller& caller, const WatchStream::Answer& answer)>;
    Writer<v1::Progress>* watch(const Result<Peer>& peer, std::string about, Ask ask);
    Writer<v1::Progress>* watch(Context* context, std::string about, Ask ask) {
        return watch(peers_.person(*context), std::move(about), std::move(ask));
    }
    Writer<v1::AuditEntry>* trail(Context* context, TrailStream::Wish wish);

    Seat& seat_;
    const Peers& peers_;
};

class AgentsService final : public v1::Agents::CallbackService {
  public:
    AgentsService(Seat& seat, const Peers& peers) : seat_(seat), peers_(peers) {}
    grpc::ServerBidiReactor<v1::AgentMessage, v1::ControllerMessage>*
    Connect(grpc::CallbackServerContext* context) override;

  private:
    Seat& seat_;
    const Peers& peers_;
};

} // namespace lanepool::controller
