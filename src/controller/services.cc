// SPDX-License-Identifier: Apache-2.0
#include "controller/services.h"

#include "api/convert.h"
#include "api/status.h"
#include "controller/agent_stream.h"

namespace lanepool::controller {

namespace {

template <class Request>
using LoanInput = Result<pool::LoanId> (pool::Pool::*)(const Request&, pool::Now);

// A request that makes or ends a loan.
template <class Request>
WatchStream::Ask ask_for_loan(Goal::Kind kind, LoanInput<Request> input, Request request) {
    return [kind, input, request = std::move(request)](Core& core) -> Result<Goal> {
        const pool::LoanId loan = TRY(core.decide<pool::LoanId>(
            [&](pool::Pool& pool, pool::Now now) { return (pool.*input)(request, now); }));
        return Goal{kind, core.pool().ledger().loans.find(loan)->fdid, loan};
    };
}

grpc::Status show(const pool::Pool& pool, const std::string& id, v1::ShowReply& reply) {
    const auto& ledger = pool.ledger();
    if (id.starts_with("loan:")) {
        const auto loan = pool.find_loan(id);
        if (!loan) return api::to_status(loan.error());
        *reply.mutable_loan() = loan_message(pool, *ledger.loans.find(*loan));
        return grpc::Status::OK;
    }
    if (const auto fdid = pool.find_device(id)) {
        *reply.mutable_device() = device_message(pool, *ledger.devices.find(*fdid));
        return grpc::Status::OK;
    }
    if (const pool::Host* host = ledger.hosts.find(id)) {
        *reply.mutable_host() = api::to_message(*host, ledger.lends(id));
        return grpc::Status::OK;
    }
    return api::to_status(
        Error(Errc::not_found,
              fmt::format("there is no device, host or loan '{}'; `lanepool ls`, `lanepool hosts` and "
                          "`lanepool loans` show those that are there",
                          pool::limited(id, 64))));
}

} // namespace

grpc::ServerUnaryReactor* PoolService::answer(grpc::CallbackServerContext* context,
                                              std::function<grpc::Status()> fill) {
    auto* reactor = context->DefaultReactor();
    if (!core_.enter_call()) {
        reactor->Finish(
            {grpc::StatusCode::RESOURCE_EXHAUSTED, "the controller has as many calls as it takes"});
        return reactor;
    }
    core_.post([this, reactor, fill = std::move(fill)] {
        core_.leave_call();
        reactor->Finish(fill());
    });
    return reactor;
}

grpc::ServerWriteReactor<v1::Progress>* PoolService::watch(std::string about, WatchStream::Ask ask) {
    return WatchStream::start(std::make_shared<WatchStream>(core_, std::move(about), std::move(ask)));
}

grpc::ServerWriteReactor<v1::AuditEntry>* PoolService::trail(TrailStream::Wish wish) {
    return TrailStream::start(std::make_shared<TrailStream>(core_, std::move(wish)));
}

grpc::ServerUnaryReactor* PoolService::ListDevices(grpc::CallbackServerContext* context,
                                                   const v1::ListRequest*, v1::DeviceList* reply) {
    return answer(context, [this, reply] {
        for (const auto& [fdid, device] : core_.pool().ledger().devices.all())
            *reply->add_devices() = device_message(core_.pool(), device);
        return grpc::Status::OK;
    });
}

grpc::ServerUnaryReactor* PoolService::ListHosts(grpc::CallbackServerContext* context, const v1::ListRequest*,
                                                 v1::HostList* reply) {
    return answer(context, [this, reply] {
        const auto& ledger = core_.pool().ledger();
        for (const auto& [name, host] : ledger.hosts.all())
            *reply->add_hosts() = api::to_message(host, ledger.lends(name));
        return grpc::Status::OK;
    });
}

grpc::ServerUnaryReactor* PoolService::ListLoans(grpc::CallbackServerContext* context,
                                                 const v1::ListRequest* request, v1::LoanList* reply) {
    return answer(context, [this, all = request->all(), reply] {
        for (const auto& [id, loan] : core_.pool().ledger().loans.all())
            if (all || !has_ended(loan.state)) *reply->add_loans() = loan_message(core_.pool(), loan);
        return grpc::Status::OK;
    });
}

grpc::ServerUnaryReactor* PoolService::Show(grpc::CallbackServerContext* context,
                                            const v1::ShowRequest* request, v1::ShowReply* reply) {
    return answer(context, [this, id = request->id(), reply] { return show(core_.pool(), id, *reply); });
}

grpc::ServerWriteReactor<v1::Progress>* PoolService::Borrow(grpc::CallbackServerContext*,
                                                            const v1::BorrowRequest* request) {
    return watch(request->device(),
                 ask_for_loan(Goal::Kind::loan_active, &pool::Pool::borrow, api::from_message(*request)));
}

grpc::ServerWriteReactor<v1::Progress>* PoolService::Return(grpc::CallbackServerContext*,
                                                            const v1::ReturnRequest* request) {
    return watch(request->loan_or_device(),
                 ask_for_loan(Goal::Kind::loan_over, &pool::Pool::give_back, api::from_message(*request)));
}

grpc::ServerWriteReactor<v1::Progress>* PoolService::Reclaim(grpc::CallbackServerContext*,
                                                             const v1::ReclaimRequest* request) {
    return watch(request->loan_or_device(),
                 ask_for_loan(Goal::Kind::loan_over, &pool::Pool::reclaim, api::from_message(*request)));
}

grpc::ServerWriteReactor<v1::Progress>* PoolService::Reassign(grpc::CallbackServerContext*,
                                                              const v1::ReassignRequest* request) {
    return watch(request->loan_or_device(),
                 ask_for_loan(Goal::Kind::loan_active, &pool::Pool::reassign, api::from_message(*request)));
}

grpc::ServerWriteReactor<v1::Progress>* PoolService::Reset(grpc::CallbackServerContext*,
                                                           const v1::ResetRequest* request) {
    return watch(request->device(), [request = api::from_message(*request)](Core& core) -> Result<Goal> {
        const pool::Fdid fdid = TRY(core.decide<pool::Fdid>(
            [&](pool::Pool& pool, pool::Now now) { return pool.reset(request, now); }));
        return Goal{Goal::Kind::device_available, fdid, {}};
    });
}

grpc::ServerWriteReactor<v1::AuditEntry>* PoolService::Events(grpc::CallbackServerContext*,
                                                              const v1::EventsRequest* request) {
    return trail({.subject = {},
                  .after_sequence = request->after_sequence(),
                  .last = request->last(),
                  .follow = request->follow()});
}

grpc::ServerWriteReactor<v1::AuditEntry>* PoolService::Audit(grpc::CallbackServerContext*,
                                                             const v1::AuditRequest* request) {
    return trail(
        {.subject = request->subject(), .after_sequence = 0, .last = request->last(), .follow = false});
}

grpc::ServerBidiReactor<v1::AgentMessage, v1::ControllerMessage>*
AgentsService::Connect(grpc::CallbackServerContext*) {
    return AgentStream::start(core_);
}

} // namespace lanepool::controller
