// SPDX-License-Identifier: Apache-2.0
#include "vfio_user/connection.h"

#include "io/unix_socket.h"

#include <poll.h>
#include <sys/epoll.h>

namespace lanepool::vfio_user {

namespace {
// After so many messages the loop gets its turn, so that one busy client does not starve the others.
constexpr int messages_per_turn = 32;
} // namespace

Result<std::shared_ptr<Connection>> Connection::create(io::EventLoop& loop, UniqueFd socket,
                                                       Callbacks callbacks) {
    std::shared_ptr<Connection> connection(new Connection(loop, std::move(socket), std::move(callbacks)));
    connection->watch_ = TRY(loop.watch(connection->socket_.get(), EPOLLIN | EPOLLRDHUP,
                                        [weak = std::weak_ptr(connection)](uint32_t events) {
                                            if (const auto self = weak.lock()) self->ready(events);
                                        }));
    return connection;
}

void Connection::ready(uint32_t events) {
    if (events & EPOLLOUT) {
        flush();
        if (is_open() && queue_.empty()) callbacks_.drained();
    }
    // What the peer sent before it closed is still handled, but for a paused connection: who has gone does
    // not read the answers.
    if (is_open() && (events & EPOLLIN) && !paused_) {
        read_messages();
        return;
    }
    if (is_open() && (events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)))
        fail_with(Error(Errc::disconnected, "the other side closed the connection"));
}

void Connection::read_messages() {
    for (int count = 0; count < messages_per_turn && is_open() && !paused_;) {
        if (const auto read = read_some(); !read) {
            if (read.error().code() != Errc::unavailable) fail_with(read.error());
            return;
        }
        if (auto message = reader_.take()) {
            ++count;
            callbacks_.message(std::move(*message));
        }
    }
}

Result<> Connection::read_some() {
    auto received = TRY(io::receive(socket_.get(), reader_.wanted()));
    if (received.bytes == 0) return fail(Errc::disconnected, "the other side closed the connection");
    return reader_.filled(received.bytes, std::move(received.fds), received.fds_truncated);
}

void Connection::send(std::vector<std::byte> bytes, std::vector<SharedFd> fds) {
    if (!is_open()) return;
    queued_bytes_ += bytes.size();
    queue_.push_back({std::move(bytes), 0, std::move(fds)});
    if (queue_.size() == 1) flush();
    if (queued_bytes_ > max_queued_bytes)
        fail_soon(Error(Errc::no_space, "the other side does not read its messages"));
}

void Connection::flush() {
    bool progress = false;
    while (!queue_.empty()) {
        auto& front = queue_.front();
        std::vector<int> fds;
        if (front.sent_bytes == 0)
            for (const auto& fd : front.fds)
                fds.push_back(fd->get());
        const auto sent = io::send(socket_.get(), std::span(front.bytes).subspan(front.sent_bytes), fds);
        if (!sent) {
            if (sent.error().code() != Errc::unavailable) fail_soon(sent.error());
            break;
        }
        progress = true;
        front.sent_bytes += *sent;
        queued_bytes_ -= *sent;
        if (front.sent_bytes == front.bytes.size()) queue_.pop_front();
    }
    if (progress) write_timer_.reset();
    if (!queue_.empty() && !write_timer_)
        write_timer_ = loop_.after(write_timeout, [weak = weak_from_this()] {
            if (const auto self = weak.lock())
                self->fail_with(Error(Errc::timeout, "the other side has stopped reading its messages"));
        });
    update_events();
}

void Connection::pause(bool paused) {
    if (paused_ == paused) return;
    paused_ = paused;
    update_events();
}

void Connection::update_events() {
    if (!is_open()) return;
    uint32_t events = EPOLLRDHUP;
    if (!paused_) events |= EPOLLIN;
    if (!queue_.empty()) events |= EPOLLOUT;
    [[maybe_unused]] const auto changed = loop_.change(watch_, events);
}

bool Connection::peer_has_gone() const {
    if (!is_open()) return true;
    pollfd state{socket_.get(), POLLRDHUP, 0};
    return ::poll(&state, 1, 0) > 0 && (state.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

void Connection::close() {
    watch_.reset();
    write_timer_.reset();
    queue_.clear();
    queued_bytes_ = 0;
    reader_ = {};
    socket_.reset();
}

// Not from inside a call of send(): the caller does not expect to be told of the end there.
void Connection::fail_soon(Error error) {
    queue_.clear();
    queued_bytes_ = 0;
    loop_.post([weak = weak_from_this(), error = std::move(error)] {
        if (const auto self = weak.lock()) self->fail_with(error);
    });
}

void Connection::fail_with(const Error& error) {
    if (!is_open()) return;
    close();
    callbacks_.closed(error);
}

} // namespace lanepool::vfio_user
