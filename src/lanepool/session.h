// SPDX-License-Identifier: Apache-2.0
//
// The connection of a program to its host's agent. Read smartio.h first: threads, callbacks, deadlines.
#pragma once

#include "base/result.h"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace lanepool {

namespace client {
class Connection; // how the objects of this interface reach the agent
struct RequesterState;
} // namespace client

// For timeouts: no limit.
inline constexpr std::chrono::milliseconds forever = std::chrono::milliseconds::max();

// A host of the fabric, by its partition's number.
struct Node {
    uint32_t number = 0;
    bool alive = false; // as far as this host knows; probe() asks
};

struct SessionOptions {
    // Where the agent listens. Empty: $LANEPOOL_AGENT, or without that /run/lanepool/application.sock.
    std::filesystem::path socket = {};
    // How long a call waits for the agent's answer.
    std::chrono::milliseconds call_timeout = std::chrono::seconds(15);
    // Called once when the agent has gone away: nothing of this session works any more. Not called when the
    // session is destroyed.
    std::function<void(const Error& why)> on_lost = {};
};

class Session {
  public:
    // Connects to the agent. Errors: not_found and unavailable (nobody listens at the socket),
    // permission_denied (this user may not), not_supported (the agent speaks another version).
    static Result<Session> open(SessionOptions options = {});

    Session(Session&&) noexcept;
    Session& operator=(Session&&) noexcept;
    // Gives back everything that the session's objects still have.
    ~Session();

    uint32_t node() const;           // this host's
    const std::string& host() const; // its name
    const std::string& user() const; // as policy and audit know this program: USER@HOST

    // All hosts of the fabric, this one included.
    Result<std::vector<Node>> nodes();
    // Whether NODE answers now. Errors: unavailable (it does not), not_found (there is no such node).
    Result<> probe(uint32_t node);

    // What other parts of the library need; not for programs.
    const std::shared_ptr<client::Connection>& connection() const { return connection_; }

  private:
    explicit Session(std::shared_ptr<client::Connection> connection);
    std::shared_ptr<client::Connection> connection_;
};

// Who else, beside the processor and borrowed devices, issues transactions to mapped remote memory: a PCIe
// function of this host, by its bus number and device-function number. Unregistered on destruction.
class Requester {
  public:
    // Errors: not_supported (the adapter needs no such entry or has none), already_exists, out_of_range.
    static Result<Requester> add(Session& session, uint8_t bus, uint8_t devfn);

    Requester(Requester&&) noexcept;
    Requester& operator=(Requester&&) noexcept;
    ~Requester();

    // What the destructor does, with its outcome.
    Result<> remove();

  private:
    explicit Requester(std::shared_ptr<client::RequesterState> state);
    std::shared_ptr<client::RequesterState> state_;
};

} // namespace lanepool
