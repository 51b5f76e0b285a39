// SPDX-License-Identifier: Apache-2.0
//
// How a client on the controller's own machine says who it is: see controller/peers.h.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

namespace lanepool::api {

inline constexpr const char* token_key = "lanepool-token"; // metadata of every call
inline constexpr size_t token_bytes = 32;                  // of randomness; sent as hexadecimal digits

// The path of "unix:/path" and "/path"; empty for an address.
inline std::filesystem::path socket_path(const std::string& endpoint) {
    if (endpoint.starts_with("unix:")) return endpoint.substr(5);
    return endpoint.starts_with('/') ? std::filesystem::path(endpoint) : std::filesystem::path();
}

// Beside the controller's socket: where tokens are handed out.
inline std::filesystem::path identity_socket(const std::filesystem::path& socket) {
    return socket.string() + ".id";
}

} // namespace lanepool::api
