// SPDX-License-Identifier: Apache-2.0
//
// Unix sockets that carry file descriptors (unix(7), SCM_RIGHTS): streams, or packets that keep their
// borders.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <span>
#include <sys/socket.h>
#include <sys/types.h>
#include <vector>

namespace lanepool::io {

enum class SocketKind { stream = SOCK_STREAM, packets = SOCK_SEQPACKET };

// A listening socket at PATH, non-blocking. A socket file that nobody listens on any more is replaced; one
// that somebody serves is already_exists. Permissions are those of MODE.
Result<UniqueFd> listen_unix(const std::filesystem::path& path, mode_t mode = 0600,
                             SocketKind kind = SocketKind::stream);
// A connected socket, blocking. Errors: not_found, unavailable (nobody listens).
Result<UniqueFd> connect_unix(const std::filesystem::path& path, SocketKind kind = SocketKind::stream);
// The same, non-blocking, and without waiting: unavailable also where the one who listens does not accept
// the connections that are there (a process that was stopped).
Result<UniqueFd> try_connect_unix(const std::filesystem::path& path);
// The same for either kind, waiting up to TIMEOUT (more than zero) for the one who listens to accept those
// that came before.
Result<UniqueFd> connect_unix_within(const std::filesystem::path& path, SocketKind kind,
                                     std::chrono::milliseconds timeout);
// The next connection of LISTENER, non-blocking; unavailable when there is none.
Result<UniqueFd> accept_unix(const UniqueFd& listener);

// Who is at the other end, as the kernel recorded it at connect (SO_PEERCRED).
struct PeerCredentials {
    pid_t pid;
    uid_t uid;
    gid_t gid;
};
Result<PeerCredentials> peer_credentials(const UniqueFd& socket);

// The most descriptors that one message may carry (the kernel's SCM_MAX_FD is 253).
inline constexpr size_t max_descriptors = 64;

struct Received {
    size_t bytes = 0;           // 0: the other side has closed
    std::vector<UniqueFd> fds;  // close-on-exec
    bool truncated = false;     // of packets: this one was longer than the buffer, the rest is lost
    bool fds_truncated = false; // more came than max_descriptors; the kernel closed the rest
};

// At most BUFFER's size, as far as there is anything; unavailable where a non-blocking socket has nothing.
Result<Received> receive(int socket, std::span<std::byte> buffer);
// Sends as much of DATA as fits now, the descriptors with the first byte; returns how many bytes went.
// unavailable where a non-blocking socket is full, disconnected where the other side is gone (no SIGPIPE).
Result<size_t> send(int socket, std::span<const std::byte> data, std::span<const int> fds = {});

} // namespace lanepool::io
