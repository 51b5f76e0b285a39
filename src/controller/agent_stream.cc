// SPDX-License-Identifier: Apache-2.0
#include "controller/agent_stream.h"

#include "api/convert.h"
#include "api/status.h"

#include <spdlog/spdlog.h>

namespace lanepool::controller {

namespace {
// More than the steps of all devices that a host can have; an agent that lets so many wait does not read.
constexpr size_t longest_queue = 8192;
} // namespace

AgentStream* AgentStream::start(Seat& seat, Result<Peer> peer) {
    std::shared_ptr<AgentStream> stream(new AgentStream(seat, peer ? *peer : Peer{}));
    stream->self_ = stream;
    if (!peer) {
        stream->closed_ = true;
        stream->Finish(api::to_status(peer.error()));
        return stream.get();
    }
    if (!seat.enter_stream()) {
        stream->closed_ = true;
        stream->Finish(
            {grpc::StatusCode::RESOURCE_EXHAUSTED, "the controller has as many streams as it takes"});
        return stream.get();
    }
    seat.post([stream] { stream->join(); });
    return stream.get();
}

void AgentStream::join() {
    const auto core = seat_.core();
    if (!core) return close(core.error());
    core_ = &core->get();
    core_->add(*this);
    core_->engine().listen(*this);
    StartRead(&in_);
}

void AgentStream::OnReadDone(bool ok) {
    seat_.post([stream = self_, ok] { stream->read(ok); });
}

void AgentStream::OnWriteDone(bool ok) {
    seat_.post([stream = self_, ok] {
        stream->writing_ = false;
        if (!ok) return stream->close(grpc::Status::OK);
        stream->pump();
    });
}

void AgentStream::OnDone() {
    // One that was refused has never entered.
    seat_.post([stream = std::move(self_)] { static_cast<void>(stream); });
}

void AgentStream::read(bool ok) {
    if (closed_) return;
    if (!ok) return close(grpc::Status::OK); // its agent has closed, or is gone
    if (const auto taken = take(); !taken) return close(taken.error());
    core_->touched();
    if (!closed_) StartRead(&in_);
}

Result<> AgentStream::take() {
    Engine& engine = core_->engine();
    switch (in_.what_case()) {
    case v1::AgentMessage::kHello: {
        const auto hello = api::from_message(in_.hello());
        if (!peer_.speaks_for(hello.host))
            return fail(Errc::permission_denied, "{} is not the agent of host {}{}",
                        pool::limited(peer_.caller.user), pool::limited(hello.host),
                        peer_.agent_of.empty() ? "" : ", but of " + peer_.agent_of);
        engine.hello(*this, hello);
        return {};
    }
    case v1::AgentMessage::kStepDone:
        engine.answered(*this, TRY(api::from_message(in_.step_done())));
        return {};
    case v1::AgentMessage::kLoanLost:
        engine.lost(*this, api::from_message(in_.loan_lost()));
        return {};
    case v1::AgentMessage::kDeviceFault:
        engine.faulted(*this, api::from_message(in_.device_fault()));
        return {};
    case v1::AgentMessage::kHeartbeat:
        engine.heard(*this, in_.heartbeat().windows_free());
        return {};
    default:
        return fail(Errc::protocol, "a message of an agent says nothing that is known");
    }
}

void AgentStream::welcome(const std::vector<pool::Fdid>& fdids) {
    v1::ControllerMessage message;
    auto& welcome = *message.mutable_welcome();
    for (const pool::Fdid fdid : fdids)
        welcome.add_fdids(fdid.value);
    welcome.set_heartbeat_interval_ms(static_cast<uint32_t>(core_->options().heartbeat_interval.count()));
    welcome.set_heartbeat_timeout_ms(static_cast<uint32_t>(core_->options().heartbeat_timeout.count()));
    queue(std::move(message));
}

void AgentStream::send(const pool::Order& order) {
    v1::ControllerMessage message;
    *message.mutable_step() = api::to_message(order);
    queue(std::move(message));
}

void AgentStream::queue(v1::ControllerMessage message) {
    if (closed_) return;
    if (queue_.size() >= longest_queue)
        return close(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "too many steps wait to be read"));
    queue_.push_back(std::move(message));
    pump();
}

void AgentStream::pump() {
    if (writing_ || closed_ || queue_.empty()) return;
    writing_ = true;
    out_ = std::move(queue_.front());
    queue_.pop_front();
    StartWrite(&out_);
}

void AgentStream::close(const Error& why) {
    if (!closed_)
        spdlog::warn("closing the stream of {}: {}",
                     in_.has_hello() ? "host " + in_.hello().host() : "an agent", why.message());
    close(api::to_status(why));
}

void AgentStream::close(const grpc::Status& status) {
    if (std::exchange(closed_, true)) return;
    queue_.clear();
    seat_.leave_stream();
    if (core_) {
        core_->remove(*this);
        // Not from inside of whatever closes it. Before Finish: OnDone may come at once, on another thread,
        // and takes self_.
        seat_.post(
            [stream = self_, why = status.ok() ? "it has closed its connection" : status.error_message()] {
                Core& core = *stream->core_;
                if (core.closed()) return;
                core.engine().gone(*stream, why);
                core.touched();
            });
    }
    Finish(status);
}

} // namespace lanepool::controller
