// SPDX-License-Identifier: Apache-2.0
#include "controller/services.h"

#include "api/convert.h"
#include "api/status.h"
#include "controller/agent_stream.h"
#include "site/site_file.h"

namespace lanepool::controller {

namespace {

// A request that ends a loan, or makes one.
template <class Request>
using LoanInput = Result<pool::LoanId> (pool::Pool::*)(const Request&, pool::Now);
// A request after which a device is on its way to the pool.
template <class Request>
using DeviceInput = Result<pool::Fdid> (pool::Pool::*)(const Request&, pool::Now);

template <class Message, class Request>
auto ask_for_loan(Goal::Kind kind, LoanInput<Request> input, Message message) {
    return [kind, input, message = std::move(message)](Core& core, const pool::Caller& caller,
                                                       const WatchStream::Answer& answer) {
        const auto request = api::from_message(message, caller);
        core.decide<pool::LoanId>(
            [&](pool::Pool& pool, pool::Now now) { return (pool.*input)(request, now); },
            [kind, answer](const Result<pool::LoanId>& loan) {
                if (!loan) return answer(tl::unexpected<Error>(loan.error()));
                answer(Goal{kind, {*loan}, {}});
            });
    };
}

// GOAL: for the device that INPUT finds.
template <class Message, class Request>
auto ask_for_device(Goal goal, DeviceInput<Request> input, Message message) {
    return [goal = std::move(goal), input, message = std::move(message)](
               Core& core, const pool::Caller& caller, const WatchStream::Answer& answer) {
        const auto request = api::from_message(message, caller);
        core.decide<pool::Fdid>([&](pool::Pool& pool, pool::Now now) { return (pool.*input)(request, now); },
                                [goal, answer](const Result<pool::Fdid>& fdid) {
                                    if (!fdid) return answer(tl::unexpected<Error>(fdid.error()));
                                    Goal of_device = goal;
                                    of_device.fdid = *fdid;
                                    answer(of_device);
                                });
    };
}

const Goal available{Goal::Kind::device_available, {}, {}};

// Whether somebody may see a loan: his tenant's, or as an operator all of them.
bool may_see(const pool::Pool& pool, const pool::Caller& caller, const pool::Loan& loan) {
    const pool::Who who = pool.who(caller);
    return who.may_act_as(pool::Role::operator_) || who.tenant == loan.tenant;
}

// The device that a request is about, to find its holder where it is busy.
std::string first_device(const v1::BorrowRequest& request) {
    return request.devices_size() > 0 ? request.devices(0).device() : std::string();
}

grpc::Status nothing_there(std::string_view id) {
    return api::to_status(
        Error(Errc::not_found,
              fmt::format("there is no device, host or loan '{}'; `lanepool ls`, `lanepool hosts` and "
                          "`lanepool loans` show those that are there",
                          pool::limited(id, 64))));
}

grpc::Status show(const pool::Pool& pool, const pool::Caller& caller, const std::string& id,
                  v1::ShowReply& reply) {
    const auto& ledger = pool.ledger();
    if (id.starts_with("loan:")) {
        const auto found = pool.find_loan(id);
        if (!found) return api::to_status(found.error());
        const pool::Loan& loan = *ledger.loans.find(*found);
        if (!may_see(pool, caller, loan)) return nothing_there(id);
        *reply.mutable_loan() = loan_message(pool, loan);
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
    return nothing_there(id);
}

} // namespace

// ---- how calls are answered

// Nothing, and the call is over: nobody knows who calls, or there is no room.
bool PoolService::admit(Context* context, const Result<Peer>& peer) {
    if (!peer)
        context->DefaultReactor()->Finish(api::to_status(peer.error()));
    else if (!seat_.enter_call())
        context->DefaultReactor()->Finish(
            {grpc::StatusCode::RESOURCE_EXHAUSTED, "the controller has as many calls as it takes"});
    else
        return true;
    return false;
}

grpc::ServerUnaryReactor* PoolService::answer(Context* context, const Result<Peer>& peer, Fill fill) {
    auto* reactor = context->DefaultReactor();
    if (admit(context, peer))
        seat_.post([this, reactor, caller = peer->caller, fill = std::move(fill)] {
            seat_.leave_call();
            const auto core = seat_.core();
            reactor->Finish(core ? fill(*core, caller) : core.error());
        });
    return reactor;
}

template <class T>
grpc::ServerUnaryReactor* PoolService::decide(Context* context, const Result<Peer>& peer, Input<T> input,
                                              std::function<void(const Core&, const T&)> fill) {
    auto* reactor = context->DefaultReactor();
    if (!admit(context, peer)) return reactor;
    seat_.post([this, reactor, caller = peer->caller, input = std::move(input), fill = std::move(fill)] {
        const auto core = seat_.core();
        if (!core) {
            seat_.leave_call();
            return reactor->Finish(core.error());
        }
        const auto answer = [this, reactor, fill, core](const Result<T>& result) {
            seat_.leave_call();
            if (!result) return reactor->Finish(api::to_status(result.error()));
            fill(*core, *result);
            reactor->Finish(grpc::Status::OK);
        };
        core->get().template decide<T>(
            [&](pool::Pool& pool, pool::Now now) { return input(pool, caller, now); }, answer);
    });
    return reactor;
}

PoolService::Writer<v1::Progress>* PoolService::watch(const Result<Peer>& peer, std::string about, Ask ask) {
    if (!peer) return new RefusedStream<v1::Progress>(api::to_status(peer.error()));
    auto stream = std::make_shared<WatchStream>(
        seat_, std::move(about),
        [caller = peer->caller, ask = std::move(ask)](Core& core, const WatchStream::Answer& answer) {
            ask(core, caller, answer);
        });
    stream->certificate = peer->certificate;
    return WatchStream::start(std::move(stream));
}

PoolService::Writer<v1::AuditEntry>* PoolService::trail(Context* context, TrailStream::Wish wish) {
    const auto peer = peers_.person(*context);
    if (!peer) return new RefusedStream<v1::AuditEntry>(api::to_status(peer.error()));
    wish.caller = peer->caller;
    auto stream = std::make_shared<TrailStream>(seat_, std::move(wish));
    stream->certificate = peer->certificate;
    return TrailStream::start(std::move(stream));
}

// ---- who leads

grpc::ServerUnaryReactor* PoolService::Leader(Context* context, const v1::ListRequest*,
                                              v1::LeaderReply* reply) {
    auto* reactor = context->DefaultReactor();
    if (const auto peer = peers_.of(*context); !peer) {
        reactor->Finish(api::to_status(peer.error()));
        return reactor;
    }
    const auto now = seat_.leading();
    reply->set_here(now.here);
    reply->set_name(now.name);
    reply->set_endpoint(now.endpoint);
    reactor->Finish(grpc::Status::OK);
    return reactor;
}

// ---- looking

grpc::ServerUnaryReactor* PoolService::ListDevices(Context* context, const v1::ListRequest*,
                                                   v1::DeviceList* reply) {
    return answer(context, peers_.onlooker(*context), [reply](Core& core, const pool::Caller&) {
        for (const auto& [fdid, device] : core.pool().ledger().devices.all())
            *reply->add_devices() = device_message(core.pool(), device);
        return grpc::Status::OK;
    });
}

grpc::ServerUnaryReactor* PoolService::ListHosts(Context* context, const v1::ListRequest*,
                                                 v1::HostList* reply) {
    return answer(context, peers_.onlooker(*context), [reply](Core& core, const pool::Caller&) {
        const auto& ledger = core.pool().ledger();
        for (const auto& [name, host] : ledger.hosts.all())
            *reply->add_hosts() = api::to_message(host, ledger.lends(name));
        return grpc::Status::OK;
    });
}

grpc::ServerUnaryReactor* PoolService::ListLoans(Context* context, const v1::ListRequest* request,
                                                 v1::LoanList* reply) {
    return answer(context, [all = request->all(), reply](Core& core, const pool::Caller& caller) {
        for (const auto& [id, loan] : core.pool().ledger().loans.all())
            if ((all || !has_ended(loan.state)) && may_see(core.pool(), caller, loan))
                *reply->add_loans() = loan_message(core.pool(), loan);
        return grpc::Status::OK;
    });
}

grpc::ServerUnaryReactor* PoolService::Show(Context* context, const v1::ShowRequest* request,
                                            v1::ShowReply* reply) {
    return answer(context, [id = request->id(), reply](Core& core, const pool::Caller& caller) {
        return show(core.pool(), caller, id, *reply);
    });
}

grpc::ServerUnaryReactor* PoolService::Explain(Context* context, const v1::BorrowRequest* request,
                                               v1::Explanation* reply) {
    const auto peer = peers_.asker(*context, request->on_behalf_of());
    return answer(context, peer, [message = *request, reply](Core& core, const pool::Caller& caller) {
        const pool::Pool& pool = core.pool();
        const auto wish = api::from_message(message, caller);
        if (!wish) return api::to_status(wish.error());
        const auto explanation = pool.explain(*wish, core.now());
        reply->set_allowed(explanation.allowed);
        reply->set_now(explanation.now);
        for (const pool::Fdid fdid : explanation.devices)
            *reply->add_devices() = device_message(pool, *pool.ledger().devices.find(fdid));
        for (const auto& line : explanation.why)
            reply->add_why(line);
        return grpc::Status::OK;
    });
}

grpc::ServerUnaryReactor* PoolService::GetSite(Context* context, const v1::ListRequest*,
                                               v1::SiteReply* reply) {
    return answer(context, [reply](Core& core, const pool::Caller&) {
        reply->set_text(core.site_text());
        return grpc::Status::OK;
    });
}

grpc::ServerUnaryReactor* PoolService::VerifyAudit(Context* context, const v1::ListRequest*,
                                                   v1::AuditVerification* reply) {
    auto* reactor = context->DefaultReactor();
    if (!admit(context, peers_.person(*context))) return reactor;
    seat_.post([this, reactor, reply] {
        const auto answer = [this, reactor, reply](const Result<store::AuditCheck>& verified) {
            seat_.leave_call();
            if (!verified) return reactor->Finish(api::to_status(verified.error()));
            reply->set_entries(verified->entries);
            reply->set_first_sequence(verified->first_sequence);
            reply->set_last_sequence(verified->last_sequence);
            reply->set_head(store::hex(verified->head));
            reactor->Finish(grpc::Status::OK);
        };
        const auto core = seat_.core();
        if (core) return core->get().verifier().ask(answer);
        seat_.leave_call();
        reactor->Finish(core.error());
    });
    return reactor;
}

PoolService::Writer<v1::AuditEntry>* PoolService::Events(Context* context, const v1::EventsRequest* request) {
    TrailStream::Wish wish;
    wish.after_sequence = request->after_sequence();
    wish.last = request->last();
    wish.follow = request->follow();
    return trail(context, std::move(wish));
}

PoolService::Writer<v1::AuditEntry>* PoolService::Audit(Context* context, const v1::AuditRequest* request) {
    TrailStream::Wish wish;
    wish.subject = request->subject();
    wish.last = request->last();
    wish.filter.actor = request->actor();
    wish.filter.action = request->action();
    wish.filter.from_us = request->from_us();
    wish.filter.until_us = request->until_us();
    return trail(context, std::move(wish));
}

// ---- requests that take steps

PoolService::Writer<v1::Progress>* PoolService::Borrow(Context* context, const v1::BorrowRequest* request) {
    return watch(
        peers_.asker(*context, request->on_behalf_of()), first_device(*request),
        [message = *request](Core& core, const pool::Caller& caller, const WatchStream::Answer& answer) {
            const auto wish = api::from_message(message, caller);
            if (!wish) return answer(tl::unexpected<Error>(wish.error()));
            core.decide<std::vector<pool::LoanId>>(
                [&](pool::Pool& pool, pool::Now now) { return pool.borrow(*wish, now); },
                [answer](const Result<std::vector<pool::LoanId>>& loans) {
                    if (!loans) return answer(tl::unexpected<Error>(loans.error()));
                    answer(Goal{Goal::Kind::loans_active, *loans, {}});
                });
        });
}

PoolService::Writer<v1::Progress>* PoolService::Return(Context* context, const v1::ReturnRequest* request) {
    return watch(peers_.asker(*context, request->on_behalf_of()), request->loan_or_device(),
                 ask_for_loan(Goal::Kind::loan_over, &pool::Pool::give_back, *request));
}

PoolService::Writer<v1::Progress>* PoolService::Reclaim(Context* context, const v1::ReclaimRequest* request) {
    return watch(context, request->loan_or_device(),
                 ask_for_loan(Goal::Kind::loan_over, &pool::Pool::reclaim, *request));
}

PoolService::Writer<v1::Progress>* PoolService::Reassign(Context* context,
                                                         const v1::ReassignRequest* request) {
    return watch(context, request->loan_or_device(),
                 ask_for_loan(Goal::Kind::loans_active, &pool::Pool::reassign, *request));
}

PoolService::Writer<v1::Progress>* PoolService::Reset(Context* context, const v1::ResetRequest* request) {
    return watch(context, request->device(), ask_for_device(available, &pool::Pool::reset, *request));
}

PoolService::Writer<v1::Progress>* PoolService::Restore(Context* context, const v1::RestoreRequest* request) {
    return watch(context, request->device(), ask_for_device(available, &pool::Pool::restore, *request));
}

PoolService::Writer<v1::Progress>* PoolService::SetFunctions(Context* context,
                                                             const v1::SetFunctionsRequest* request) {
    return watch(context, request->device(),
                 ask_for_device({Goal::Kind::functions_set, {}, {}, request->functions()},
                                &pool::Pool::set_functions, *request));
}

// ---- requests that are done when they are answered

grpc::ServerUnaryReactor* PoolService::Renew(Context* context, const v1::RenewRequest* request,
                                             v1::Loan* reply) {
    return decide<pool::LoanId>(
        context, peers_.asker(*context, request->on_behalf_of()),
        [message = *request](pool::Pool& pool, const pool::Caller& caller, pool::Now now) {
            return pool.renew(api::from_message(message, caller), now);
        },
        [reply](const Core& core, const pool::LoanId& id) {
            *reply = loan_message(core.pool(), *core.pool().ledger().loans.find(id));
        });
}

grpc::ServerUnaryReactor* PoolService::Quarantine(Context* context, const v1::QuarantineRequest* request,
                                                  v1::Done*) {
    return decide<pool::Fdid>(
        context,
        [message = *request](pool::Pool& pool, const pool::Caller& caller, pool::Now now) {
            return pool.quarantine(api::from_message(message, caller), now);
        },
        [](const Core&, const pool::Fdid&) {});
}

grpc::ServerUnaryReactor* PoolService::KeepLocal(Context* context, const v1::KeepLocalRequest* request,
                                                 v1::Done*) {
    return decide<pool::Fdid>(
        context,
        [message = *request](pool::Pool& pool, const pool::Caller& caller, pool::Now now) {
            return pool.keep_local(api::from_message(message, caller), now);
        },
        [](const Core&, const pool::Fdid&) {});
}

grpc::ServerUnaryReactor* PoolService::Drain(Context* context, const v1::DrainRequest* request, v1::Done*) {
    return decide<std::vector<pool::LoanId>>(
        context,
        [message = *request](pool::Pool& pool, const pool::Caller& caller, pool::Now now) {
            return pool.drain(api::from_message(message, caller), now);
        },
        [](const Core&, const std::vector<pool::LoanId>&) {});
}

grpc::ServerUnaryReactor* PoolService::ApplySite(Context* context, const v1::ApplySiteRequest* request,
                                                 v1::Done*) {
    return decide<bool>(
        context,
        [message = *request](pool::Pool& pool, const pool::Caller& caller, pool::Now now) -> Result<bool> {
            auto site = TRY(site::parse(message.text(), pool::limited(message.file_name())));
            TRY(pool.apply_site(std::move(site), message.text(), caller, now));
            return true;
        },
        [](const Core&, bool) {});
}

grpc::ServerBidiReactor<v1::AgentMessage, v1::ControllerMessage>*
AgentsService::Connect(grpc::CallbackServerContext* context) {
    return AgentStream::start(seat_, peers_.of(*context));
}

} // namespace lanepool::controller
