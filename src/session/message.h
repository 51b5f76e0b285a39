// SPDX-License-Identifier: Apache-2.0
//
// One message between an application's library and its host's agent: a JSON object and descriptors, one
// packet of a Unix socket. What is in it: protocol.h.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace lanepool::session {

using Json = nlohmann::json;

inline constexpr size_t max_message_bytes = 64 << 10;
inline constexpr size_t max_message_fds = 64;

struct Message {
    Json body = Json::object();
    std::vector<UniqueFd> fds;
};

// Sends one message; the descriptors stay the caller's. Errors: no_space (over the limits), disconnected, and
// unavailable where a non-blocking socket is full: the other side does not read.
Result<> send(int socket, const Json& body, const std::vector<int>& fds = {});
// The next message. Errors: disconnected (the other side has closed), unavailable (a non-blocking socket has
// none), protocol (not a JSON object, too long, too many descriptors): then the connection is of no use any
// more.
Result<Message> receive(int socket);

// Fields of what somebody else sent, checked. Errors: protocol, naming the field.
Result<uint64_t> get_number(const Json& body, const char* field);
// FALLBACK where there is no such field.
Result<uint64_t> get_number(const Json& body, const char* field, uint64_t fallback);
Result<bool> get_flag(const Json& body, const char* field, bool fallback);
Result<std::string> get_text(const Json& body, const char* field); // at most 4096 bytes

} // namespace lanepool::session
