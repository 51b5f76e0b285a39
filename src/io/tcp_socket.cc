// SPDX-License-Identifier: Apache-2.0
#include "io/tcp_socket.h"

#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <charconv>
#include <memory>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace lanepool::io {

namespace {

constexpr int backlog = 256;

Result<std::string> text(const sockaddr_storage& address) {
    std::array<char, INET6_ADDRSTRLEN> buffer{};
    if (address.ss_family == AF_INET) {
        const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
        ::inet_ntop(AF_INET, &v4.sin_addr, buffer.data(), buffer.size());
        return fmt::format("{}:{}", buffer.data(), ntohs(v4.sin_port));
    }
    if (address.ss_family == AF_INET6) {
        const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
        ::inet_ntop(AF_INET6, &v6.sin6_addr, buffer.data(), buffer.size());
        return fmt::format("[{}]:{}", buffer.data(), ntohs(v6.sin6_port));
    }
    return fail(Errc::not_supported, "a socket of address family {}", address.ss_family);
}

} // namespace

Result<HostPort> parse_host_port(std::string_view where) {
    const auto wrong = [&] {
        return fail(Errc::invalid_argument,
                    "'{}' is no address: write HOST:PORT, [V6]:PORT, or unix:/path for a socket", where);
    };
    const auto colon = where.rfind(':');
    if (colon == std::string_view::npos) return wrong();
    std::string_view host = where.substr(0, colon);
    const std::string_view digits = where.substr(colon + 1);
    if (host.starts_with('[') && host.ends_with(']'))
        host = host.substr(1, host.size() - 2);
    else if (host.find(':') != std::string_view::npos)
        return wrong();
    HostPort parsed{std::string(host), 0};
    const auto end = std::from_chars(digits.data(), digits.data() + digits.size(), parsed.port);
    if (host.empty() || digits.empty() || end.ec != std::errc() || end.ptr != digits.data() + digits.size())
        return wrong();
    return parsed;
}

Result<UniqueFd> listen_tcp(const HostPort& where) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
    addrinfo* found = nullptr;
    const std::string port = std::to_string(where.port);
    if (const int error = ::getaddrinfo(where.host.c_str(), port.c_str(), &hints, &found); error != 0)
        return fail(Errc::invalid_argument, "'{}' is no address of this machine: {}", where.host,
                    ::gai_strerror(error));
    const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);
    UniqueFd fd(::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) return fail_errno("creating a socket");
    // One that was restarted does not wait for its old connections to be forgotten.
    const int on = 1;
    if (::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0)
        return fail_errno("setting an option of a socket");
    if (::bind(fd.get(), found->ai_addr, found->ai_addrlen) != 0 || ::listen(fd.get(), backlog) != 0) {
        if (errno == EADDRINUSE)
            return fail(Errc::already_exists,
                        "port {} of {} is already being served: stop who does, or name another port",
                        where.port, where.host);
        return fail_errno(fmt::format("listening on port {} of {}", where.port, where.host));
    }
    return fd;
}

Result<UniqueFd> accept_tcp(const UniqueFd& listener) {
    UniqueFd fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd) return fail_errno("accepting a connection");
    const int on = 1;
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); // only slower without
    return fd;
}

Result<std::string> local_address(int socket) {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    if (::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0)
        return fail_errno("asking for a socket's address");
    return text(address);
}

Result<std::string> remote_address(int socket) {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    if (::getpeername(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0)
        return fail_errno("asking for the other end's address");
    return text(address);
}

} // namespace lanepool::io
