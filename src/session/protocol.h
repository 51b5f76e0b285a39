// SPDX-License-Identifier: Apache-2.0
//
// The numbers of what an application's library and the agent of its host say to each other; the calls are in
// docs/session-protocol.md.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lanepool::session {

inline constexpr uint64_t protocol_version = 1;

// Where an agent listens when nobody says otherwise, and the variable in which somebody may.
inline constexpr const char* default_socket = "/run/lanepool/application.sock";
inline constexpr const char* socket_variable = "LANEPOOL_AGENT";

// Of one session; over them: no_space.
inline constexpr size_t max_segments = 1024;
inline constexpr size_t max_connections = 4096;
inline constexpr size_t max_interrupts = 256;
inline constexpr size_t max_devices = 64;
inline constexpr size_t max_mappings = 1024;
// Of all segments of a session together.
inline constexpr uint64_t max_segment_bytes = uint64_t{1} << 40;
// Of one data interrupt.
inline constexpr size_t max_senders = 64;
// The ring of one who has connected to a data interrupt.
inline constexpr uint64_t data_ring_bytes = 64 << 10;

} // namespace lanepool::session
