// SPDX-License-Identifier: Apache-2.0
#include "vfio_user/channel.h"

#include "io/unix_socket.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

namespace lanepool::vfio_user {

namespace {
// At most so many calls wait at once; far more than there are threads.
constexpr size_t max_waiters = 4096;

// Waits until the socket is ready for EVENTS. Errors: timeout.
Result<> wait_for(int socket, short events, std::optional<io::TimePoint> deadline) {
    while (true) {
        timespec left{};
        if (deadline) {
            const auto remaining = std::max(io::Duration(0), *deadline - io::system_clock().now());
            left.tv_sec = remaining.count() / 1'000'000'000;
            left.tv_nsec = remaining.count() % 1'000'000'000;
        }
        pollfd state{socket, events, 0};
        const int ready = ::ppoll(&state, 1, deadline ? &left : nullptr, nullptr);
        if (ready > 0) return {};
        if (ready == 0) return fail(Errc::timeout, "the server does not read its messages");
        if (errno != EINTR) return fail_errno("waiting for the server");
    }
}
} // namespace

Result<std::unique_ptr<Channel>> Channel::create(UniqueFd socket, io::Duration timeout, Callbacks callbacks) {
    const int flags = ::fcntl(socket.get(), F_GETFL);
    if (flags < 0 || ::fcntl(socket.get(), F_SETFL, flags | O_NONBLOCK) != 0)
        return fail_errno("setting up a connection");
    std::unique_ptr<Channel> channel(new Channel(std::move(socket), timeout, std::move(callbacks)));
    return channel;
}

void Channel::start() {
    receiver_ = std::thread([this] { receive_loop(); });
}

void Channel::stop() {
    close(Error(Errc::disconnected, "the function is being given back"));
    if (receiver_.joinable()) receiver_.join();
}

void Channel::close(const Error& why) {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    closed_ = why;
    ::shutdown(socket_.get(), SHUT_RDWR); // wakes the receiving thread, and whoever waits to send
    for (const auto& [id, waiter] : waiters_)
        waiter->done.notify_one();
}

Error Channel::lost_error() const {
    return Error(Errc::disconnected, fmt::format("the function is gone: {}", closed_->message()));
}

Result<uint16_t> Channel::enter(Waiter& waiter) {
    const std::lock_guard lock(mutex_);
    if (closed_) return tl::unexpected<Error>(lost_error());
    if (waiters_.size() >= max_waiters)
        return fail(Errc::busy, "{} calls wait for the function already", waiters_.size());
    do
        ++last_id_;
    while (waiters_.contains(last_id_));
    waiters_.emplace(last_id_, &waiter);
    return last_id_;
}

Result<Message> Channel::call(wire::Command command, std::initializer_list<std::span<const std::byte>> parts,
                              std::span<const int> fds) {
    const auto deadline = io::system_clock().now() + timeout_;
    Waiter waiter{command, {}, std::nullopt};
    const uint16_t id = TRY(enter(waiter));
    const auto sent = send(wire::encode_command(command, id, parts), fds);

    std::unique_lock lock(mutex_);
    while (sent && !waiter.answer && !closed_) {
        if (waiter.done.wait_until(lock, deadline) == std::cv_status::timeout && !waiter.answer && !closed_) {
            lock.unlock();
            const Error late(Errc::timeout,
                             fmt::format("the function did not answer command {} within {} ms",
                                         static_cast<int>(command),
                                         std::chrono::round<std::chrono::milliseconds>(timeout_).count()));
            close(late); // a late answer could not be told from the next one's
            lock.lock();
            waiters_.erase(id);
            return tl::unexpected<Error>(late);
        }
    }
    waiters_.erase(id);
    if (waiter.answer) return checked(std::move(*waiter.answer));
    if (!sent) return tl::unexpected<Error>(sent.error());
    return tl::unexpected<Error>(lost_error());
}

Result<Message> Channel::checked(Message answer) {
    if (answer.header.flags & wire::flags::error) {
        const auto number = static_cast<int>(answer.header.error & 0xfff);
        return fail_errno(number,
                          fmt::format("the function refused command {}", uint16_t{answer.header.command}));
    }
    if (answer.fds_lost)
        return fail(Errc::no_space, "descriptors of an answer were lost: too many are open in this process");
    return answer;
}

Result<> Channel::send(const std::vector<std::byte>& bytes, std::span<const int> fds) {
    const auto deadline = io::system_clock().now() + timeout_;
    const std::lock_guard one_at_a_time(send_mutex_);
    size_t done = 0;
    while (done < bytes.size()) {
        {
            const std::lock_guard lock(mutex_);
            if (closed_) return tl::unexpected<Error>(lost_error());
        }
        const auto count =
            io::send(socket_.get(), std::span(bytes).subspan(done), done == 0 ? fds : std::span<const int>());
        if (count) {
            done += *count;
            continue;
        }
        Result<> result = tl::unexpected<Error>(count.error());
        if (count.error().code() == Errc::unavailable) result = wait_for(socket_.get(), POLLOUT, deadline);
        if (!result) {
            // Perhaps half of a message has gone out: the stream is worth nothing any more.
            if (done > 0 || result.error().code() != Errc::io) close(result.error());
            return result;
        }
    }
    return {};
}

void Channel::receive_loop() {
    while (true) {
        auto message = receive_one();
        const auto handled =
            message ? on_message(std::move(*message)) : tl::unexpected<Error>(message.error());
        if (handled) continue;
        close(handled.error());
        break;
    }
    callbacks_.lost();
}

Result<Message> Channel::receive_one() {
    while (true) {
        auto received = io::receive(socket_.get(), reader_.wanted());
        if (!received && received.error().code() == Errc::unavailable) {
            TRY(wait_for(socket_.get(), POLLIN, std::nullopt)); // until there is something or close()
            continue;
        }
        if (!received) return tl::unexpected<Error>(received.error());
        if (received->bytes == 0) return fail(Errc::disconnected, "the server closed the connection");
        TRY(reader_.filled(received->bytes, std::move(received->fds), received->fds_truncated));
        if (auto message = reader_.take()) return std::move(*message);
    }
}

Result<> Channel::on_message(Message message) {
    if (!message.header.is_reply()) return callbacks_.command(std::move(message));
    const std::lock_guard lock(mutex_);
    const auto found = waiters_.find(message.header.id);
    if (found == waiters_.end() || found->second->answer ||
        static_cast<uint16_t>(found->second->command) != message.header.command)
        return fail(Errc::protocol, "the server answered message {}, which was not sent",
                    uint16_t{message.header.id});
    found->second->answer = std::move(message);
    found->second->done.notify_one();
    return {};
}

} // namespace lanepool::vfio_user
