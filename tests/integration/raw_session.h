// SPDX-License-Identifier: Apache-2.0
//
// For tests: one end of an application's socket that says whatever the test wants, right or wrong.
#pragma once

#include "io/unix_socket.h"
#include "session/message.h"

#include <deque>
#include <filesystem>
#include <functional>
#include <gtest/gtest.h>
#include <optional>
#include <string>
#include <sys/socket.h>
#include <vector>

namespace lanepool::test {

using session::Json;

class RawSession {
  public:
    explicit RawSession(const std::filesystem::path& path)
        : socket_(io::connect_unix(path, io::SocketKind::packets).value()) {
        const timeval limit{10, 0}; // a test fails instead of hanging
        ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        ::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    }

    // An answer: empty when the connection has ended.
    struct Answer {
        Json body;
        std::vector<UniqueFd> fds;

        bool ok() const { return body.value("ok", false); }
        std::string code() const { return body.value("code", body.is_null() ? "closed" : ""); }
        uint64_t number(const char* field) const { return body.value(field, uint64_t{0}); }
    };

    void send(const Json& body, const std::vector<int>& fds = {}) {
        [[maybe_unused]] const auto sent = session::send(socket_.get(), body, fds);
    }
    // Without waiting for the answer.
    uint64_t start(const std::string& name, Json arguments = Json::object(),
                   const std::vector<int>& fds = {}) {
        arguments["id"] = ++last_id_;
        arguments["call"] = name;
        send(arguments, fds);
        return last_id_;
    }
    Answer finish(uint64_t id) {
        while (true) {
            for (auto message = waiting_.begin(); message != waiting_.end(); ++message)
                if (message->body.value("id", uint64_t{0}) == id) return take(message);
            if (!receive()) return {};
        }
    }
    Answer call(const std::string& name, Json arguments = Json::object(), const std::vector<int>& fds = {}) {
        return finish(start(name, std::move(arguments), fds));
    }
    Answer hello() { return call("hello", {{"version", 1}}); }
    // The next event of that name.
    Answer event(const std::string& name) {
        while (true) {
            for (auto message = waiting_.begin(); message != waiting_.end(); ++message)
                if (message->body.value("event", "") == name) return take(message);
            if (!receive()) return {};
        }
    }
    // Whether the agent has ended the session (what else comes before is dropped).
    bool closed_by_agent() {
        while (receive())
            waiting_.clear();
        return ended_;
    }
    void close() { socket_.reset(); }
    int socket() const { return socket_.get(); }

  private:
    bool receive() {
        auto message = session::receive(socket_.get());
        if (!message) {
            ended_ = message.error().code() == Errc::disconnected;
            return false;
        }
        waiting_.push_back(std::move(*message));
        return true;
    }
    Answer take(std::deque<session::Message>::iterator message) {
        Answer answer{std::move(message->body), std::move(message->fds)};
        waiting_.erase(message);
        return answer;
    }

    UniqueFd socket_;
    uint64_t last_id_ = 0;
    bool ended_ = false;
    std::deque<session::Message> waiting_;
};

} // namespace lanepool::test
