// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace lanepool::io {

// "HOST:PORT" or "[V6]:PORT", in parts. Errors: invalid_argument.
struct HostPort {
    std::string host; // without brackets
    uint16_t port = 0;
};
Result<HostPort> parse_host_port(std::string_view text);

// A listening socket, non-blocking, on the first address of HOST; port 0: any that is free. Errors:
// invalid_argument (no such host), already_exists (somebody has the port), and what the system says.
Result<UniqueFd> listen_tcp(const HostPort& where);
// The next connection of LISTENER, non-blocking; unavailable when there is none.
Result<UniqueFd> accept_tcp(const UniqueFd& listener);

// As "A.B.C.D:PORT" or "[V6]:PORT".
Result<std::string> local_address(int socket);
// The same of the other end.
Result<std::string> remote_address(int socket);

} // namespace lanepool::io
