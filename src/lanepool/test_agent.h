// SPDX-License-Identifier: Apache-2.0
//
// The other end of a session, for tests: says what a test tells it to, right or wrong.
#pragma once

#include "base/mapping.h"
#include "base/temporary_folder.h"
#include "io/unix_socket.h"
#include "lanepool/session.h"
#include "session/message.h"

#include <condition_variable>
#include <filesystem>
#include <functional>
#include <gtest/gtest.h>
#include <map>
#include <mutex>
#include <poll.h>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <vector>

namespace lanepool {

using session::Json;

class TestAgent {
  public:
    struct Reply {
        Json body = Json::object(); // beside id and ok
        std::vector<int> fds = {};
        bool silent = false;
    };
    using Handler = std::function<Reply(const session::Message& call)>;

    TestAgent() {
        listener_ = *io::listen_unix(path(), 0600, io::SocketKind::packets);
        on("hello",
           {{"version", 1}, {"host", "h1"}, {"node", 1}, {"user", "me@h1"}, {"nodes", Json::array()}});
        thread_ = std::thread([this] { run(); });
    }
    ~TestAgent() {
        die();
        thread_.join();
    }

    std::filesystem::path path() const { return folder_ / "agent.sock"; }
    SessionOptions options() const { return {.socket = path(), .call_timeout = std::chrono::seconds(20)}; }

    // What to answer to CALL from now on.
    void on(const std::string& call, Handler handler) {
        const std::lock_guard lock(mutex_);
        handlers_[call] = std::move(handler);
    }
    // The descriptors stay the caller's, and must stay open.
    void on(const std::string& call, Json body, std::vector<int> fds = {}) {
        on(call, [=](const session::Message&) { return Reply{body, fds}; });
    }
    void refuse(const std::string& call, Errc code) {
        on(call, [=](const session::Message&) {
            return Reply{{{"ok", false}, {"code", name(code)}, {"error", "because"}}};
        });
    }
    void ignore(const std::string& call) {
        on(call, [](const session::Message&) { return Reply{.silent = true}; });
    }
    // Anything at all, as one message.
    void say(const Json& body, const std::vector<int>& fds = {}) {
        const std::lock_guard lock(mutex_);
        (void)session::send(connection_.get(), body, fds);
    }
    void die() {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
        ::shutdown(listener_.get(), SHUT_RDWR);
        if (connection_) ::shutdown(connection_.get(), SHUT_RDWR);
    }
    // The next call of that name that was not asked for yet, waiting for it.
    Json next(const std::string& call) {
        std::unique_lock lock(mutex_);
        const auto& calls = calls_[call];
        if (!called_.wait_for(lock, std::chrono::seconds(20), [&] { return calls.size() > seen_[call]; })) {
            ADD_FAILURE() << "no call " << call;
            return Json::object();
        }
        return calls[seen_[call]++];
    }
    size_t count(const std::string& call) {
        const std::lock_guard lock(mutex_);
        return calls_[call].size();
    }

  private:
    void run() {
        pollfd waiting{listener_.get(), POLLIN, 0};
        ::poll(&waiting, 1, -1);
        {
            auto accepted = io::accept_unix(listener_);
            const std::lock_guard lock(mutex_);
            if (!accepted || stopping_) return;
            connection_ = std::move(*accepted);
        }
        for (;;) {
            pollfd ready{connection_.get(), POLLIN, 0};
            ::poll(&ready, 1, -1);
            auto message = session::receive(connection_.get());
            if (!message) return;
            handle(*message);
        }
    }
    void handle(const session::Message& message) {
        const auto call = *session::get_text(message.body, "call");
        Handler handler;
        {
            const std::lock_guard lock(mutex_);
            const auto found = handlers_.find(call);
            if (found != handlers_.end()) handler = found->second;
        }
        auto reply = handler ? handler(message) : Reply{};
        {
            const std::lock_guard lock(mutex_);
            calls_[call].push_back(message.body);
        }
        called_.notify_all();
        if (reply.silent) return;
        if (!reply.body.contains("ok")) reply.body["ok"] = true;
        if (!reply.body.contains("id")) reply.body["id"] = message.body["id"];
        say(reply.body, reply.fds);
    }

    TemporaryFolder folder_;
    UniqueFd listener_;
    std::mutex mutex_;
    std::condition_variable called_;
    UniqueFd connection_;
    bool stopping_ = false;
    std::map<std::string, Handler> handlers_;
    std::map<std::string, std::vector<Json>> calls_;
    std::map<std::string, size_t> seen_;
    std::thread thread_;
};

// Something that a callback says and a test waits for.
template <class T>
class Heard {
  public:
    void say(T value) {
        const std::lock_guard lock(mutex_);
        values_.push_back(std::move(value));
        changed_.notify_all();
    }
    // The next one.
    T next() {
        std::unique_lock lock(mutex_);
        if (!changed_.wait_for(lock, std::chrono::seconds(20), [&] { return values_.size() > seen_; })) {
            ADD_FAILURE() << "nothing was heard";
            return {};
        }
        return values_[seen_++];
    }
    size_t count() {
        const std::lock_guard lock(mutex_);
        return values_.size();
    }

  private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<T> values_;
    size_t seen_ = 0;
};

template <class T>
Errc code(const Result<T>& result) {
    EXPECT_FALSE(result) << "it should have failed";
    return result ? Errc::internal : result.error().code();
}

} // namespace lanepool
