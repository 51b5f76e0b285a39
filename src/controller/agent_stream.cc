// SPDX-License-Identifier: Apache-2.0
#include "controller/agent_stream.h"

#include "api/status.h"

#include <spdlog/spdlog.h>

namespace lanepool::controller {

namespace {
// More than the steps of all devices that a host can have; an agent that lets so many wait does not read.
constexpr size_t longest_queue = 8192;
} // namespace

AgentStream* AgentStream::start(Core& core) {
    std::shared_ptr<AgentStream> stream(new AgentStream(core));
    stream->self_ = stream;
    if (!core.enter_stream()) {
        stream->closed_ = true;
        stream->Finish(
            {grpc::StatusCode::RESOURCE_EXHAUSTED, "the controller has as many streams as it takes"});
        return stream.get();
    }
    core.post([stream] {
        stream->last_heard_ = stream->core_.time();
        if (!stream->core_.add(*stream)) return;
        stream->core_.listen_to(*stream);
        stream->StartRead(&stream->in_);
    });
    return stream.get();
}

void AgentStream::OnReadDone(bool ok) {
    core_.post([stream = self_, ok] { stream->read(ok); });
}

void AgentStream::OnWriteDone(bool ok) {
    core_.post([stream = self_, ok] {
        stream->writing_ = false;
        if (!ok) return stream->close(grpc::Status::OK);
        stream->pump();
    });
}

void AgentStream::OnDone() {
    // One that was refused has never entered.
    core_.post([stream = std::move(self_)] { static_cast<void>(stream); });
}

void AgentStream::read(bool ok) {
    if (closed_) return;
    if (!ok) return close(grpc::Status::OK); // its agent has closed, or is gone
    last_heard_ = core_.time();
    if (const auto taken = take(); !taken) {
        spdlog::warn("closing the stream of {}: {}",
                     host_.empty() ? "an agent" : "the agent of host " + host_, taken.error().message());
        return close(api::to_status(taken.error()));
    }
    if (!closed_) StartRead(&in_);
}

Result<> AgentStream::take() {
    if (in_.has_hello()) {
        if (!host_.empty() && host_ != in_.hello().host())
            return fail(Errc::protocol, "the agent of host {} says that it is of host {} now", host_,
                        in_.hello().host());
        const bool first = host_.empty();
        if (first) host_ = in_.hello().host();
        auto welcome = core_.hello(*this, in_.hello());
        if (!welcome) {
            if (first) host_.clear();
            return tl::unexpected<Error>(welcome.error());
        }
        release_held();
        return {};
    }
    // An agent that is not on the fabric yet shows that it lives, and has nothing else to say.
    if (host_.empty() && in_.has_heartbeat()) return {};
    if (host_.empty()) return fail(Errc::protocol, "the first message of an agent has to be a Hello");
    return core_.heard(host_, in_);
}

void AgentStream::send(v1::ControllerMessage message) {
    release_held();
    if (closed_) return;
    if (queue_.size() >= longest_queue)
        return close({grpc::StatusCode::RESOURCE_EXHAUSTED, "too many steps wait to be read"});
    queue_.push_back(std::move(message));
    pump();
}

void AgentStream::release_held() {
    while (!held_.empty() && !closed_) {
        queue_.push_back(std::move(held_.front()));
        held_.pop_front();
    }
    pump();
}

void AgentStream::pump() {
    if (writing_ || closed_ || queue_.empty()) return;
    writing_ = true;
    out_ = std::move(queue_.front());
    queue_.pop_front();
    StartWrite(&out_);
}

void AgentStream::close(const grpc::Status& status) {
    if (std::exchange(closed_, true)) return;
    queue_.clear();
    core_.remove(*this);
    core_.listen_no_more(*this);
    core_.leave_stream();
    // Not from inside of whatever closes it. Before Finish: OnDone may come at once, on another thread, and
    // takes self_.
    core_.post([stream = self_, host = host_,
                why = status.ok() ? "it has closed its connection" : status.error_message()] {
        stream->core_.agent_gone(*stream, host, why);
    });
    Finish(status);
}

} // namespace lanepool::controller
