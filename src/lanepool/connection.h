// SPDX-License-Identifier: Apache-2.0
//
// A session's side of docs/session-protocol.md: calls with deadlines, events to whom they concern.
#pragma once

#include "base/result.h"
#include "lanepool/event_thread.h"
#include "lanepool/session.h"
#include "session/message.h"

#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace lanepool::client {

using session::Json;
using session::Message;
using Milliseconds = std::chrono::milliseconds;

// What an event can be about: whoever has a handle.
class Target : public Sink {
  public:
    // At once, on the thread that receives: must not block or call back. May take MESSAGE's descriptors.
    virtual void on_received(const std::string& /*event*/, Message& /*message*/) {}
    // Afterwards on the event thread, through Sink::enter(), as on_lost().
    virtual void on_event(const std::string& /*event*/, const Message& /*message*/) {}
    // The agent is gone.
    virtual void on_lost(const Error& why) = 0;
};

struct CallOptions {
    std::vector<int> fds = {};
    Milliseconds wait{0};                     // in addition to the session's own time
    std::shared_ptr<Target> target = nullptr; // whom events are for that name what the answer names
};

class Connection : public std::enable_shared_from_this<Connection> {
  public:
    static Result<std::shared_ptr<Connection>> open(SessionOptions options);
    ~Connection();

    // Ends it: the agent takes back everything, calls answer `disconnected`, no callback comes any more. By
    // the session's owner, once.
    void close();

    // Asks the agent and waits for its answer. What an answer that comes too late has made is given back.
    // Errors: the agent's own; timeout, disconnected.
    Result<Message> call(const char* name, Json arguments, CallOptions options = {});

    // Gives back HANDLE by CALL; no event for it comes any more, unless this fails. Errors: busy, those of
    // call(). What the agent does not have any more is given back.
    Result<> give_back(const char* call, const char* kind, uint64_t handle, bool force);

    // Whether the agent is gone, and why.
    Result<> alive() const;
    bool is_lost() const { return is_lost_; }
    // Readable for ever once the agent is gone: for who waits by poll().
    int lost_fd() const { return lost_event_.get(); }

    EventThread& events() { return *events_; }

    // As the agent said it in its hello.
    uint32_t node() const { return node_; }
    const std::string& host() const { return host_; }
    const std::string& user() const { return user_; }

  private:
    struct Pending {
        const char* name;
        std::shared_ptr<Target> target;
        std::condition_variable answered;
        std::optional<Result<Message>> answer;
        bool abandoned = false;
    };
    using Key = std::pair<std::string, uint64_t>; // the kind of a handle, and the handle

    Connection(UniqueFd socket, UniqueFd lost_event, std::unique_ptr<EventThread> events,
               SessionOptions options);
    Result<> hello();
    Result<> send(const Json& body, const std::vector<int>& fds,
                  std::chrono::steady_clock::time_point deadline);
    void receive();
    Result<> handle(Message message);
    Result<> handle_answer(Message message);
    Result<> handle_event(Message message);
    void give_back_late(const char* call, const Message& answer);
    void lose(const Error& why);

    const UniqueFd socket_;
    const UniqueFd lost_event_;
    const std::unique_ptr<EventThread> events_;
    const SessionOptions options_;
    const std::shared_ptr<Target> target_; // the session's own: on_lost
    uint32_t node_ = 0;
    std::string host_;
    std::string user_;

    mutable std::mutex mutex_;
    std::optional<Error> lost_;
    std::atomic<bool> is_lost_{false};
    bool closing_ = false;
    uint64_t next_id_ = 1;
    std::map<uint64_t, std::shared_ptr<Pending>> pending_;
    std::map<Key, std::weak_ptr<Target>> targets_;

    std::thread receiver_;
    std::thread event_thread_;
};

// For poll(): what is left until DEADLINE.
int poll_timeout_ms(std::chrono::steady_clock::time_point deadline);
// WAIT from now on; far away where it is `forever`.
std::chrono::steady_clock::time_point deadline_after(Milliseconds wait);
// For timeout_ms of a call.
uint64_t timeout_ms(Milliseconds wait);
// As session::get_number(), of what has 32 bits.
Result<uint32_t> get_u32(const Json& body, const char* field);

} // namespace lanepool::client
