// SPDX-License-Identifier: Apache-2.0
#include "io/unix_socket.h"

#include "base/system_call.h"

#include <cstring>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

namespace lanepool::io {

namespace {
Result<sockaddr_un> address_of(const std::filesystem::path& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string text = path.string();
    if (text.empty() || text.size() >= sizeof address.sun_path)
        return fail(Errc::invalid_argument,
                    "socket path '{}' has {} bytes, allowed are 1 to {}; choose a shorter folder", text,
                    text.size(), sizeof address.sun_path - 1);
    std::memcpy(address.sun_path, text.data(), text.size());
    return address;
}
const sockaddr* generic(const sockaddr_un& address) { return reinterpret_cast<const sockaddr*>(&address); }
} // namespace

namespace {
Result<UniqueFd> connect_unix(const std::filesystem::path& path, SocketKind kind, int flags) {
    const auto address = TRY(address_of(path));
    UniqueFd fd(::socket(AF_UNIX, static_cast<int>(kind) | SOCK_CLOEXEC | flags, 0));
    if (!fd) return fail_errno("creating a socket");
    if (::connect(fd.get(), generic(address), sizeof address) != 0)
        return fail_errno(fmt::format("connecting to {}", path.string()));
    return fd;
}
} // namespace

Result<UniqueFd> connect_unix(const std::filesystem::path& path, SocketKind kind) {
    return connect_unix(path, kind, 0);
}
Result<UniqueFd> try_connect_unix(const std::filesystem::path& path) {
    return connect_unix(path, SocketKind::stream, SOCK_NONBLOCK);
}

Result<UniqueFd> connect_unix_within(const std::filesystem::path& path, SocketKind kind,
                                     std::chrono::milliseconds timeout) {
    const auto address = TRY(address_of(path));
    UniqueFd fd(::socket(AF_UNIX, static_cast<int>(kind) | SOCK_CLOEXEC, 0));
    if (!fd) return fail_errno("creating a socket");
    // unix(7): a full queue of connections makes connect() wait for as long as a send() would.
    const timeval limit{timeout.count() / 1000, timeout.count() % 1000 * 1000};
    if (::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) != 0)
        return fail_errno("limiting how long a socket may wait");
    if (::connect(fd.get(), generic(address), sizeof address) != 0)
        return fail_errno(fmt::format("connecting to {}", path.string()));
    if (::fcntl(fd.get(), F_SETFL, O_NONBLOCK) != 0) return fail_errno("making a socket non-blocking");
    return fd;
}

Result<UniqueFd> listen_unix(const std::filesystem::path& path, mode_t mode, SocketKind kind) {
    const auto address = TRY(address_of(path));
    if (auto other = connect_unix(path, kind))
        return fail(Errc::already_exists, "{} is already being served", path.string());
    else if (other.error().code() == Errc::unavailable)
        ::unlink(path.c_str());
    UniqueFd fd(::socket(AF_UNIX, static_cast<int>(kind) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) return fail_errno("creating a socket");
    // Permissions are set on the descriptor first, so that there is no moment in which the file is open to
    // all.
    if (::fchmod(fd.get(), mode) != 0) return fail_errno("setting the mode of a socket");
    if (::bind(fd.get(), generic(address), sizeof address) != 0)
        return fail_errno(fmt::format("binding {}", path.string()));
    if (::listen(fd.get(), 16) != 0) return fail_errno(fmt::format("listening on {}", path.string()));
    return fd;
}

Result<UniqueFd> accept_unix(const UniqueFd& listener) {
    UniqueFd fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd) return fail_errno("accepting a connection");
    return fd;
}

Result<PeerCredentials> peer_credentials(const UniqueFd& socket) {
    ucred credentials{};
    socklen_t length = sizeof credentials;
    if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0)
        return fail_errno("asking for peer credentials");
    return PeerCredentials{credentials.pid, credentials.uid, credentials.gid};
}

Result<Received> receive(int socket, std::span<std::byte> buffer) {
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * max_descriptors)];
    iovec data{buffer.data(), buffer.size()};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t count =
        call_again_after_signals([&] { return ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC); });
    if (count < 0) return fail_errno(static_cast<int>(count), "receiving");
    Received received;
    received.bytes = static_cast<size_t>(count);
    received.truncated = (message.msg_flags & MSG_TRUNC) != 0;
    received.fds_truncated = (message.msg_flags & MSG_CTRUNC) != 0;
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        const size_t number = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < number; ++i) {
            int fd;
            std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
            received.fds.emplace_back(fd);
        }
    }
    return received;
}

Result<size_t> send(int socket, std::span<const std::byte> data, std::span<const int> fds) {
    if (fds.size() > max_descriptors)
        return fail(Errc::invalid_argument, "{} descriptors in one message, at most {} can go", fds.size(),
                    max_descriptors);
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * max_descriptors)];
    iovec part{const_cast<std::byte*>(data.data()), data.size()}; // sendmsg only reads it
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (!fds.empty()) {
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
        cmsghdr* header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
        std::memcpy(CMSG_DATA(header), fds.data(), sizeof(int) * fds.size());
    }
    const ssize_t count = call_again_after_signals([&] { return ::sendmsg(socket, &message, MSG_NOSIGNAL); });
    if (count < 0) return fail_errno(static_cast<int>(count), "sending");
    return static_cast<size_t>(count);
}

} // namespace lanepool::io
