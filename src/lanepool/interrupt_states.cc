// SPDX-License-Identifier: Apache-2.0
#include "lanepool/interrupt_states.h"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <poll.h>
#include <string_view>
#include <unistd.h>

namespace lanepool::client {

namespace {
// The eventfd of an answer that has DESCRIPTORS, made non-blocking: its other owners may not stop this
// process.
Result<UniqueFd> take_eventfd(Message& answer, size_t descriptors) {
    if (answer.fds.size() != descriptors)
        return fail(Errc::protocol, "{} descriptors in the agent's answer, {} belong there",
                    answer.fds.size(), descriptors);
    UniqueFd fd = std::move(answer.fds[0]);
    std::array<char, 64> link{};
    const std::string path = fmt::format("/proc/self/fd/{}", fd.get());
    const ssize_t length = ::readlink(path.c_str(), link.data(), link.size());
    if (length < 0) return fail_errno("looking at a descriptor from the agent");
    if (std::string_view(link.data(), static_cast<size_t>(length)) != "anon_inode:[eventfd]")
        return fail(Errc::protocol, "the agent has handed out something that is not an eventfd");
    const int flags = ::fcntl(fd.get(), F_GETFL);
    if (flags < 0 || ::fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) != 0)
        return fail_errno("making an eventfd non-blocking");
    return fd;
}
} // namespace

LocalInterrupt::~LocalInterrupt() {
    if (watch_id) connection->events().unwatch(watch_id);
}

Result<> LocalInterrupt::create(const std::shared_ptr<LocalInterrupt>& self,
                                const std::shared_ptr<Connection>& with,
                                std::optional<uint32_t> wanted_number, bool data) {
    connection = with;
    Json arguments = {{"data", data}};
    if (wanted_number) arguments["number"] = *wanted_number;
    auto answer = TRY(connection->call("interrupt_create", std::move(arguments), {.target = self}));
    handle = TRY(session::get_number(answer.body, "interrupt"));
    const auto take = [&]() -> Result<> {
        number = TRY(get_u32(answer.body, "number"));
        eventfd = TRY(take_eventfd(answer, 1));
        return {};
    };
    auto taken = take();
    if (!taken) drop();
    return taken;
}

Result<> LocalInterrupt::watch(const std::shared_ptr<LocalInterrupt>& self, std::function<void()> work) {
    auto id = connection->events().watch(eventfd.get(), self, std::move(work));
    if (!id) {
        drop();
        return tl::unexpected(id.error());
    }
    watch_id = *id;
    return {};
}

Result<uint64_t> LocalInterrupt::wait(std::chrono::steady_clock::time_point deadline) {
    for (;;) {
        if (removed) return fail(Errc::cancelled, "interrupt {} was removed", number);
        std::array<pollfd, 2> fds{{{eventfd.get(), POLLIN, 0}, {connection->lost_fd(), POLLIN, 0}}};
        const int ready = ::poll(fds.data(), fds.size(), poll_timeout_ms(deadline));
        if (ready < 0 && errno != EINTR) return fail_errno("waiting for an interrupt");
        if (ready < 0) continue;
        if (removed) {
            signal(eventfd); // for who else waits
            return fail(Errc::cancelled, "interrupt {} was removed", number);
        }
        if (fds[0].revents)
            if (const uint64_t count = drain(eventfd)) return count;
        if (fds[1].revents) return tl::unexpected(connection->alive().error());
        if (ready == 0 && std::chrono::steady_clock::now() >= deadline)
            return fail(Errc::timeout, "no interrupt has come");
    }
}

Result<> LocalInterrupt::remove(bool force) {
    if (removed) return fail(Errc::failed_precondition, "interrupt {} is removed already", number);
    TRY(connection->give_back("interrupt_remove", "interrupt", handle, force));
    removed = true;
    if (eventfd) signal(eventfd); // who waits sees it
    return {};
}

void LocalInterrupt::drop() {
    close();
    (void)remove(true);
}

void LocalInterrupt::on_lost(const Error& why) {
    if (lost_callback) lost_callback(why);
}

Result<Message> RemoteInterruptState::connect(const std::shared_ptr<RemoteInterruptState>& self,
                                              const std::shared_ptr<Connection>& with, Json arguments,
                                              Milliseconds timeout, size_t descriptors) {
    connection = with;
    arguments["timeout_ms"] = timeout_ms(timeout);
    auto answer =
        TRY(connection->call("interrupt_connect", std::move(arguments), {.wait = timeout, .target = self}));
    handle = TRY(session::get_number(answer.body, "connection"));
    auto taken = take_eventfd(answer, descriptors);
    if (!taken) {
        drop();
        return tl::unexpected(taken.error());
    }
    eventfd = std::move(*taken);
    return answer;
}

Result<> RemoteInterruptState::usable() const {
    if (is_lost) return fail(Errc::disconnected, "the interrupt has been removed, or its host has died");
    if (connection->is_lost()) return connection->alive();
    if (disconnected) return fail(Errc::failed_precondition, "it is disconnected already");
    return {};
}

Result<> RemoteInterruptState::disconnect(bool force) {
    if (disconnected) return fail(Errc::failed_precondition, "it is disconnected already");
    TRY(connection->give_back("disconnect", "connection", handle, force));
    disconnected = true;
    return {};
}

void RemoteInterruptState::drop() {
    close();
    (void)disconnect(true);
}

void RemoteInterruptState::on_received(const std::string& event, Message& /*message*/) {
    if (event == "connection_lost") is_lost = true;
}

void RemoteInterruptState::on_event(const std::string& event, const Message& message) {
    if (event != "connection_lost") return;
    const auto reason = session::get_text(message.body, "reason");
    on_lost(Error(Errc::disconnected, reason ? *reason : "the interrupt is gone"));
}

void RemoteInterruptState::on_lost(const Error& why) {
    if (!std::exchange(was_told, true) && lost_callback) lost_callback(why);
}

} // namespace lanepool::client
