// SPDX-License-Identifier: Apache-2.0
//
// One accepted socket of a server on its event loop: whole messages in, whole messages out, a limit on what
// waits to go out. Knows nothing of what the messages mean.
#pragma once

#include "io/event_loop.h"
#include "vfio_user/frame_reader.h"

#include <deque>
#include <functional>
#include <memory>

namespace lanepool::vfio_user {

class Connection : public std::enable_shared_from_this<Connection> {
  public:
    struct Callbacks {
        std::function<void(Message)> message;
        // Called once, unless close() was called before. Whatever it was, the connection is closed already.
        std::function<void(const Error&)> closed;
        // Everything that was queued has gone out.
        std::function<void()> drained;
    };

    // Takes over a non-blocking socket. All on the loop's thread.
    static Result<std::shared_ptr<Connection>> create(io::EventLoop& loop, UniqueFd socket,
                                                      Callbacks callbacks);

    // Queues a message, and sends it at once as far as the socket takes it. With more than max_queued_bytes
    // waiting, the connection is closed instead: a peer that does not read gets no memory of ours.
    void send(std::vector<std::byte> bytes, std::vector<SharedFd> fds = {});
    // While paused nothing is read; a hang-up is still noticed.
    void pause(bool paused);
    bool paused() const { return paused_; }
    size_t queued_bytes() const { return queued_bytes_; }
    bool is_open() const { return static_cast<bool>(socket_); }
    // Whether the other side has gone, perhaps before the loop said so.
    bool peer_has_gone() const;
    // Without a call of `closed`.
    void close();

    static constexpr size_t max_queued_bytes = 32 << 20;
    // How long a peer may leave a full socket unread.
    static constexpr io::Duration write_timeout = std::chrono::seconds(10);

  private:
    struct Outgoing {
        std::vector<std::byte> bytes;
        size_t sent_bytes = 0;
        std::vector<SharedFd> fds;
    };

    Connection(io::EventLoop& loop, UniqueFd socket, Callbacks callbacks)
        : loop_(loop), socket_(std::move(socket)), callbacks_(std::move(callbacks)) {}
    void ready(uint32_t events);
    void read_messages();
    Result<> read_some();
    void flush();
    void update_events();
    void fail_with(const Error& error);
    void fail_soon(Error error);

    io::EventLoop& loop_;
    UniqueFd socket_;
    Callbacks callbacks_;
    FrameReader reader_;
    std::deque<Outgoing> queue_;
    size_t queued_bytes_ = 0;
    bool paused_ = false;
    io::EventLoop::Registration watch_;
    io::EventLoop::Registration write_timer_;
};

} // namespace lanepool::vfio_user
