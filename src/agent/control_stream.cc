// SPDX-License-Identifier: Apache-2.0
#include "agent/control_stream.h"

#include "api/client.h"

#include <spdlog/spdlog.h>

namespace lanepool::agent {

using namespace std::chrono_literals;

namespace {
constexpr auto retry_delay = 200ms;
// The controller takes messages at once; this many waiting means that it has stopped reading.
constexpr size_t max_queued_messages = 10'000;
} // namespace

ControlStream::ControlStream(io::EventLoop& loop, std::string endpoint, ControlEvents events)
    : loop_(loop), endpoint_(std::move(endpoint)), events_(std::move(events)), thread_([this] { run(); }) {}

ControlStream::~ControlStream() {
    *alive_ = false;
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
        if (context_) context_->TryCancel();
    }
    changed_.notify_all();
    thread_.join();
}

void ControlStream::post(std::function<void()> work) {
    loop_.post([alive = alive_, work = std::move(work)] {
        if (*alive) work();
    });
}

void ControlStream::send(v1::AgentMessage message) {
    {
        const std::lock_guard lock(mutex_);
        if (!stream_open_) return;
        if (queue_.size() >= max_queued_messages) {
            context_->TryCancel(); // start over with a Hello rather than grow for ever
            return;
        }
        queue_.push_back(std::move(message));
    }
    changed_.notify_all();
}

void ControlStream::run() {
    while (true) {
        run_stream();
        std::unique_lock lock(mutex_);
        if (changed_.wait_for(lock, retry_delay, [this] { return stopping_; })) return;
    }
}

void ControlStream::run_stream() {
    // A connection of its own each time: the controller knows each of them by itself.
    const auto client = api::Client::connect(endpoint_, 1s);
    if (!client) return;
    grpc::ClientContext context;
    (*client)->prepare(context);
    {
        const std::lock_guard lock(mutex_);
        if (stopping_) return;
        context_ = &context;
        queue_.clear();
        stream_open_ = true;
    }
    const auto stream = (*client)->agents().Connect(&context);
    connected_ = true;
    post([this] { events_.connected(); });
    std::thread writer([this, &stream] { write_all(*stream); });

    v1::ControllerMessage message;
    while (stream->Read(&message))
        post([this, message] { events_.message(message); });

    {
        const std::lock_guard lock(mutex_);
        stream_open_ = false;
    }
    changed_.notify_all();
    context.TryCancel(); // a writer that is stuck in Write() returns
    writer.join();
    const grpc::Status status = stream->Finish();
    {
        const std::lock_guard lock(mutex_);
        context_ = nullptr;
    }
    connected_ = false;
    spdlog::warn("the stream to the controller at {} has ended: {}", endpoint_, status.error_message());
    post([this] { events_.disconnected(); });
}

void ControlStream::write_all(grpc::ClientReaderWriter<v1::AgentMessage, v1::ControllerMessage>& stream) {
    while (true) {
        v1::AgentMessage message;
        {
            std::unique_lock lock(mutex_);
            changed_.wait(lock, [this] { return !stream_open_ || !queue_.empty(); });
            if (!stream_open_) return;
            message = std::move(queue_.front());
            queue_.pop_front();
        }
        if (!stream.Write(message)) return;
    }
}

} // namespace lanepool::agent
