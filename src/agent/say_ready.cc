// SPDX-License-Identifier: Apache-2.0
#include "agent/say_ready.h"

#include "base/unique_fd.h"

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <sys/socket.h>
#include <sys/un.h>

namespace lanepool::agent {

Result<> say_ready() {
    const char* name = std::getenv("NOTIFY_SOCKET");
    if (!name || !*name) return {};
    const std::string_view path = name;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if ((path[0] != '/' && path[0] != '@') || path.size() >= sizeof address.sun_path)
        return fail(Errc::invalid_argument, "$NOTIFY_SOCKET is '{}', which is no socket", path);
    std::memcpy(address.sun_path, path.data(), path.size());
    if (path[0] == '@') address.sun_path[0] = '\0'; // an abstract one
    const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket) return fail_errno("making a socket to tell the service manager");
    constexpr std::string_view ready = "READY=1\n";
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
    if (::sendto(socket.get(), ready.data(), ready.size(), MSG_NOSIGNAL,
                 reinterpret_cast<const sockaddr*>(&address), length) < 0)
        return fail_errno("telling the service manager that the agent is ready");
    return {};
}

} // namespace lanepool::agent
