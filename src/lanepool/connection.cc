// SPDX-License-Identifier: Apache-2.0
#include "lanepool/connection.h"

#include "io/unix_socket.h"
#include "session/protocol.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <poll.h>
#include <sys/socket.h>

namespace lanepool::client {

namespace {
using Clock = std::chrono::steady_clock;

// Calls that may be under way; those that have timed out count until they are answered.
constexpr size_t max_pending = 4096;
// What may wait while a callback does not return.
constexpr size_t max_events = 4096;
// What `forever` is for arithmetic.
constexpr Milliseconds longest = std::chrono::hours(24 * 365);

// Calls whose answer has a handle, and what gives that back.
struct Maker {
    const char* call;
    const char* handle;
    const char* give_back;
};
constexpr Maker makers[] = {
    {"segment_create", "segment", "segment_remove"},
    {"segment_connect", "connection", "disconnect"},
    {"interrupt_create", "interrupt", "interrupt_remove"},
    {"interrupt_connect", "connection", "disconnect"},
    {"device_borrow", "device", "device_return"},
    {"device_bar", "connection", "disconnect"},
    {"device_segment", "connection", "disconnect"},
    {"device_map", "mapping", "device_unmap"},
    {"requester_register", "requester", "requester_unregister"},
};
const Maker* maker(std::string_view call) {
    const auto* found = std::ranges::find_if(makers, [&](const Maker& m) { return call == m.call; });
    return found == std::end(makers) ? nullptr : found;
}

std::filesystem::path socket_path(const SessionOptions& options) {
    if (!options.socket.empty()) return options.socket;
    const char* said = std::getenv(session::socket_variable);
    return said && *said ? said : session::default_socket;
}

// The session itself: has no handle.
struct SessionTarget : Target {
    explicit SessionTarget(std::function<void(const Error&)> callback) : callback_(std::move(callback)) {}
    void on_lost(const Error& why) override {
        if (callback_) callback_(why);
    }
    const std::function<void(const Error&)> callback_;
};
} // namespace

int poll_timeout_ms(Clock::time_point deadline) {
    const auto left = std::chrono::ceil<Milliseconds>(deadline - Clock::now());
    return static_cast<int>(std::clamp<int64_t>(left.count(), 0, std::numeric_limits<int>::max()));
}
Clock::time_point deadline_after(Milliseconds wait) {
    return Clock::now() + std::clamp(wait, Milliseconds(0), longest);
}
uint64_t timeout_ms(Milliseconds wait) {
    return static_cast<uint64_t>(std::clamp(wait, Milliseconds(0), longest).count());
}

Result<uint32_t> get_u32(const Json& body, const char* field) {
    const uint64_t value = TRY(session::get_number(body, field));
    if (value > std::numeric_limits<uint32_t>::max())
        return fail(Errc::protocol, "field '{}' is {}, too much", field, value);
    return static_cast<uint32_t>(value);
}

Connection::Connection(UniqueFd socket, UniqueFd lost_event, std::unique_ptr<EventThread> events,
                       SessionOptions options)
    : socket_(std::move(socket)), lost_event_(std::move(lost_event)), events_(std::move(events)),
      options_(std::move(options)), target_(std::make_shared<SessionTarget>(options_.on_lost)) {}

Result<std::shared_ptr<Connection>> Connection::open(SessionOptions options) {
    if (options.call_timeout <= Milliseconds(0))
        return fail(Errc::invalid_argument, "a call_timeout of {} ms; give it some time",
                    options.call_timeout.count());
    options.call_timeout = std::min(options.call_timeout, longest);
    const auto path = socket_path(options);
    auto socket = io::connect_unix_within(path, io::SocketKind::packets, options.call_timeout);
    if (!socket)
        return tl::unexpected(
            socket.error().within("no agent of lanepool answers (is one running on this host?)"));
    auto lost_event = TRY(create_eventfd());
    auto events = TRY(EventThread::create());
    const std::shared_ptr<Connection> connection(
        new Connection(std::move(*socket), std::move(lost_event), std::move(events), std::move(options)));
    connection->receiver_ = std::thread([connection] { connection->receive(); });
    connection->event_thread_ = std::thread([connection] { connection->events_->run(); });
    if (auto said = connection->hello(); !said) {
        connection->close();
        return tl::unexpected(said.error().within(path.string()));
    }
    return connection;
}

Connection::~Connection() = default;

Result<> Connection::hello() {
    const auto answer = TRY(call("hello", {{"version", session::protocol_version}}));
    const uint64_t version = TRY(session::get_number(answer.body, "version"));
    if (version != session::protocol_version)
        return fail(Errc::not_supported, "the agent speaks version {} of the protocol, this program {}",
                    version, session::protocol_version);
    node_ = TRY(get_u32(answer.body, "node"));
    host_ = TRY(session::get_text(answer.body, "host"));
    user_ = TRY(session::get_text(answer.body, "user"));
    return {};
}

void Connection::close() {
    {
        const std::lock_guard lock(mutex_);
        closing_ = true;
    }
    target_->close();
    ::shutdown(socket_.get(), SHUT_RDWR);
    events_->stop();
    receiver_.join();
    if (event_thread_.get_id() == std::this_thread::get_id())
        event_thread_.detach(); // a callback ends its own session
    else
        event_thread_.join();
}

Result<> Connection::alive() const {
    const std::lock_guard lock(mutex_);
    if (lost_) return tl::unexpected(*lost_);
    return {};
}

Result<Message> Connection::call(const char* name, Json arguments, CallOptions options) {
    const auto deadline =
        deadline_after(std::clamp(options.wait, Milliseconds(0), longest) + options_.call_timeout);
    auto pending = std::make_shared<Pending>();
    pending->name = name;
    pending->target = std::move(options.target);
    uint64_t id = 0;
    {
        const std::lock_guard lock(mutex_);
        if (lost_) return tl::unexpected(*lost_);
        if (pending_.size() >= max_pending)
            return fail(Errc::no_space, "{} calls wait for the agent's answer", pending_.size());
        id = next_id_++;
        pending_.emplace(id, pending);
    }
    arguments["id"] = id;
    arguments["call"] = name;
    if (auto sent = send(arguments, options.fds, deadline); !sent) {
        const std::lock_guard lock(mutex_);
        pending_.erase(id);
        return tl::unexpected(sent.error());
    }
    std::unique_lock lock(mutex_);
    pending->answered.wait_until(lock, deadline, [&] { return pending->answer.has_value(); });
    if (!pending->answer) {
        pending->abandoned = true;
        return fail(Errc::timeout, "the agent did not answer '{}' in {} ms", name,
                    (options.wait + options_.call_timeout).count());
    }
    return std::move(*pending->answer);
}

Result<> Connection::send(const Json& body, const std::vector<int>& fds, Clock::time_point deadline) {
    for (;;) {
        auto sent = session::send(socket_.get(), body, fds);
        if (sent) return {};
        if (sent.error().code() != Errc::unavailable) return sent;
        pollfd ready{socket_.get(), POLLOUT, 0};
        if (::poll(&ready, 1, poll_timeout_ms(deadline)) == 0)
            return fail(Errc::timeout, "the agent does not read what it is asked");
    }
}

void Connection::receive() {
    for (;;) {
        pollfd ready{socket_.get(), POLLIN, 0};
        ::poll(&ready, 1, -1);
        auto message = session::receive(socket_.get());
        if (!message && message.error().code() == Errc::unavailable) continue;
        auto handled =
            message ? handle(std::move(*message)) : Result<>(tl::unexpected(std::move(message).error()));
        if (handled) continue;
        const bool closed = handled.error().code() == Errc::disconnected;
        lose(closed ? Error(Errc::disconnected, "the agent of this host has gone away")
                    : Error(Errc::disconnected,
                            fmt::format("the agent of this host does not keep to the protocol: {}",
                                        handled.error().message())));
        return;
    }
}

Result<> Connection::handle(Message message) {
    if (message.body.contains("event")) return handle_event(std::move(message));
    return handle_answer(std::move(message));
}

Result<> Connection::handle_answer(Message message) {
    const uint64_t id = TRY(session::get_number(message.body, "id"));
    if (!message.body.contains("ok")) return fail(Errc::protocol, "an answer without 'ok'");
    const bool ok = TRY(session::get_flag(message.body, "ok", false));
    std::optional<Result<Message>> answer;
    if (ok) {
        answer.emplace(std::move(message));
    } else {
        const auto code = code_named(TRY(session::get_text(message.body, "code")));
        answer.emplace(tl::unexpected(
            Error(code.value_or(Errc::internal), TRY(session::get_text(message.body, "error")))));
    }
    const std::lock_guard lock(mutex_);
    const auto found = pending_.find(id);
    if (found == pending_.end()) return fail(Errc::protocol, "an answer to call {}, which is not there", id);
    const auto pending = std::move(found->second);
    pending_.erase(found);
    if (pending->abandoned) {
        if (ok) give_back_late(pending->name, **answer);
        return {};
    }
    // Before anything else is received: an event about the handle may be next.
    if (const Maker* made = ok && pending->target ? maker(pending->name) : nullptr)
        if (const auto handle = session::get_number((*answer)->body, made->handle))
            targets_[{made->handle, *handle}] = pending->target;
    pending->answer = std::move(answer);
    pending->answered.notify_one();
    return {};
}

void Connection::give_back_late(const char* call, const Message& answer) {
    const Maker* made = maker(call);
    if (!made) return;
    const auto handle = session::get_number(answer.body, made->handle);
    if (!handle) return;
    auto pending = std::make_shared<Pending>();
    pending->name = made->give_back;
    pending->abandoned = true; // nobody waits for the answer
    const uint64_t id = next_id_++;
    // An agent that reads nothing is not told; it then has it until the session ends.
    if (session::send(socket_.get(),
                      {{"id", id}, {"call", made->give_back}, {made->handle, *handle}, {"force", true}}))
        pending_.emplace(id, std::move(pending));
}

Result<> Connection::handle_event(Message message) {
    auto event = TRY(session::get_text(message.body, "event"));
    std::weak_ptr<Target> target;
    {
        const std::lock_guard lock(mutex_);
        for (const char* kind : {"segment", "connection", "interrupt", "device"}) {
            const auto handle = session::get_number(message.body, kind);
            if (!handle) continue;
            const auto found = targets_.find({kind, *handle});
            if (found != targets_.end()) target = found->second;
        }
    }
    const auto shared = target.lock();
    if (!shared) return {}; // about what has just been given back, or of a later version
    if (events_->waiting() >= max_events)
        return fail(Errc::no_space, "callbacks of this program do not return, and events pile up");
    shared->on_received(event, message);
    const auto kept = std::make_shared<const Message>(std::move(message));
    auto* const raw = shared.get(); // alive while the work runs
    events_->post(target, [raw, event = std::move(event), kept] { raw->on_event(event, *kept); });
    return {};
}

Result<> Connection::give_back(const char* call_name, const char* kind, uint64_t handle, bool force) {
    Json arguments = {{kind, handle}};
    if (force) arguments["force"] = true;
    const auto answer = call(call_name, std::move(arguments));
    if (!answer && answer.error().code() != Errc::not_found && answer.error().code() != Errc::disconnected)
        return tl::unexpected(answer.error());
    const std::lock_guard lock(mutex_);
    targets_.erase({kind, handle});
    return {};
}

void Connection::lose(const Error& why) {
    std::vector<std::weak_ptr<Target>> targets{target_};
    bool closing = false;
    {
        const std::lock_guard lock(mutex_);
        closing = closing_;
        is_lost_ = true;
        lost_ = closing ? Error(Errc::disconnected, "the session was closed") : why;
        for (auto& [id, pending] : pending_) {
            pending->answer = Result<Message>(tl::unexpected(*lost_));
            pending->answered.notify_one();
        }
        pending_.clear();
        for (auto& [key, target] : targets_)
            targets.push_back(std::move(target));
        targets_.clear();
    }
    ::shutdown(socket_.get(), SHUT_RDWR); // the agent takes back what there was
    signal(lost_event_);
    if (closing) return;
    for (const auto& target : targets)
        if (const auto shared = target.lock())
            events_->post(target, [raw = shared.get(), why] { raw->on_lost(why); });
}

} // namespace lanepool::client
