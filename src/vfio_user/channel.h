// SPDX-License-Identifier: Apache-2.0
//
// A client's connection: commands out, answers matched by message id, commands of the server handed on. Any
// thread may call; one thread of the channel's own receives.
#pragma once

#include "io/clock.h"
#include "vfio_user/frame_reader.h"

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

namespace lanepool::vfio_user {

class Channel {
  public:
    struct Callbacks {
        // A command of the server's. On the receiving thread: must not wait. An error closes the channel.
        std::function<Result<>(Message)> command;
        // The connection is lost, for whatever reason. Once, on the receiving thread.
        std::function<void()> lost;
    };

    // Takes over a connected socket. Nothing is received before start().
    static Result<std::unique_ptr<Channel>> create(UniqueFd socket, io::Duration timeout,
                                                   Callbacks callbacks);
    // Ends the connection and waits for the receiving thread, which may be inside a callback.
    ~Channel() { stop(); }
    void stop();
    void start();

    // Sends a command and waits for its answer. Errors: timeout (the channel is then closed), disconnected,
    // and what the server answered.
    Result<Message> call(wire::Command command, std::initializer_list<std::span<const std::byte>> parts,
                         std::span<const int> fds = {});
    // Sends a message that gets no answer.
    Result<> send(const std::vector<std::byte>& bytes, std::span<const int> fds = {});
    // Everything answers `disconnected` from now on.
    void close(const Error& why);

  private:
    struct Waiter {
        wire::Command command;
        std::condition_variable done;
        std::optional<Message> answer;
    };

    Channel(UniqueFd socket, io::Duration timeout, Callbacks callbacks)
        : socket_(std::move(socket)), timeout_(timeout), callbacks_(std::move(callbacks)) {}
    void receive_loop();
    Result<Message> receive_one();
    Result<> on_message(Message message);
    Result<uint16_t> enter(Waiter& waiter);
    Error lost_error() const;
    static Result<Message> checked(Message answer);

    UniqueFd socket_; // non-blocking; open until the channel is destroyed, shut down by close()
    const io::Duration timeout_;
    const Callbacks callbacks_;
    FrameReader reader_; // of the receiving thread

    std::mutex send_mutex_; // one message at a time
    mutable std::mutex mutex_;
    std::optional<Error> closed_;
    uint16_t last_id_ = 0;
    std::map<uint16_t, Waiter*> waiters_;

    std::thread receiver_;
};

} // namespace lanepool::vfio_user
