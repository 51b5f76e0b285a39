// SPDX-License-Identifier: Apache-2.0
//
// How clients find out that a controller is silent, and what controllers have to take for that.
#pragma once

namespace lanepool::api {

// A client asks so often (the library makes it no more than once a second) ...
inline constexpr int keepalive_time_ms = 500;
// ... and takes a controller that does not answer for so long for gone.
inline constexpr int keepalive_timeout_ms = 800;
// Controllers close connections that ask more often than this (GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_...).
inline constexpr int keepalive_least_ms = 200;

} // namespace lanepool::api
