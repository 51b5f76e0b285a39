// SPDX-License-Identifier: Apache-2.0
//
// Where controllers are reached, as people write it. Pure; from any thread.
#pragma once

#include "base/result.h"

#include <filesystem>
#include <string>
#include <vector>

namespace lanepool::api {

inline constexpr size_t max_endpoints = 32;

struct Endpoint {
    std::filesystem::path socket; // of this machine; empty: it is an address
    std::string address;          // "HOST:PORT" or "[v6]:PORT"

    // As people write it: "unix:/path" or the address.
    std::string text() const { return socket.empty() ? address : "unix:" + socket.string(); }
    // As gRPC wants it.
    std::string target() const { return socket.empty() ? "dns:///" + address : text(); }
    bool operator==(const Endpoint&) const = default;
};

// "unix:/path", "/path", "HOST:PORT" or "[v6]:PORT", separated by commas; one that is there twice counts
// once. invalid_argument: which one is wrong, and what would be right.
Result<std::vector<Endpoint>> parse_endpoints(const std::string& list);

} // namespace lanepool::api
