// SPDX-License-Identifier: Apache-2.0
#include "agent/control_stream.h"

#include <spdlog/spdlog.h>

namespace lanepool::agent {

using namespace std::chrono_literals;

namespace {
constexpr std::chrono::milliseconds retry_delay = 200ms;
// After a refusal that a person has to do something about.
constexpr std::chrono::milliseconds refused_delay = 5s;
// A search begins anew after a while, in case something is stuck. Machines may be so busy, or so far away,
// that connecting takes longer: then the next one has twice the time.
constexpr std::chrono::milliseconds first_patience = 1s, most_patience = 8s;
// The controller takes messages at once; this many waiting means that it has stopped reading.
constexpr size_t max_queued_messages = 10'000;
} // namespace

ControlStream::ControlStream(io::EventLoop& loop, api::ClientOptions controllers, ControlEvents events)
    : loop_(loop), controllers_(std::move(controllers)), patience_(first_patience),
      events_(std::move(events)), thread_([this] { run(); }) {}

ControlStream::~ControlStream() {
    *alive_ = false;
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
        if (context_) context_->TryCancel();
        if (search_) search_->stop();
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
        const auto pause = run_stream();
        std::unique_lock lock(mutex_);
        if (changed_.wait_for(lock, pause, [this] { return stopping_; })) return;
    }
}

Result<std::unique_ptr<api::Client>> ControlStream::find_leader() {
    auto options = controllers_;
    options.timeout = patience_;
    // What a controller said is followed once, and only where it can be read.
    if (const auto hint = std::exchange(hint_, {}); api::parse_endpoints(hint))
        options.endpoints = hint + "," + options.endpoints;
    auto client = search(options);
    patience_ = client ? first_patience : std::min(2 * patience_, most_patience);
    const std::string said = client ? "" : client.error().message();
    if (!client && said != said_) spdlog::warn("not connected: {}", said);
    said_ = said;
    if (client) spdlog::info("connected to the controller at {}", (*client)->endpoint().text());
    return client;
}

Result<std::unique_ptr<api::Client>> ControlStream::search(const api::ClientOptions& options) {
    const auto search = TRY(api::LeaderSearch::create(options));
    {
        const std::lock_guard lock(mutex_);
        if (stopping_) return fail(Errc::unavailable, "the agent is stopping");
        search_ = search.get();
    }
    auto client = search->find();
    const std::lock_guard lock(mutex_);
    search_ = nullptr;
    if (stopping_) return fail(Errc::unavailable, "the agent is stopping");
    return client;
}

std::chrono::milliseconds ControlStream::run_stream() {
    // A connection of its own each time: the controller knows each of them by itself.
    const auto client = find_leader();
    if (!client) return retry_delay;
    grpc::ClientContext context;
    (*client)->prepare(context);
    {
        const std::lock_guard lock(mutex_);
        if (stopping_) return retry_delay;
        context_ = &context;
        queue_.clear();
        stream_open_ = true;
    }
    const auto stream = (*client)->agents().Connect(&context);
    connected_ = true;
    post([this] { events_.connected(); });
    bool writing = true;
    std::thread writer([this, &stream, &writing] {
        write_all(*stream);
        const std::lock_guard lock(mutex_);
        writing = false;
        changed_.notify_all();
    });

    v1::ControllerMessage message;
    while (stream->Read(&message))
        post([this, message] { events_.message(message); });

    {
        std::unique_lock lock(mutex_);
        stream_open_ = false;
        changed_.notify_all();
        // One that is stuck in Write() returns when the call is cancelled; before that, we hear why it ended.
        if (!changed_.wait_for(lock, retry_delay, [&writing] { return !writing; })) context.TryCancel();
    }
    writer.join();
    const grpc::Status status = stream->Finish();
    {
        const std::lock_guard lock(mutex_);
        context_ = nullptr;
    }
    connected_ = false;
    hint_ = api::leader_of(status);
    spdlog::warn("the stream to the controller at {} has ended: {}", (*client)->endpoint().text(),
                 status.error_message());
    post([this] { events_.disconnected(); });
    return status.error_code() == grpc::StatusCode::PERMISSION_DENIED ? refused_delay : retry_delay;
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
