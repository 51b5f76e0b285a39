// SPDX-License-Identifier: Apache-2.0
//
// Who somebody is, by his certificate: its subject is CN=NAME, OU=lanepool ROLE, and its alternative names
// have the URI lanepool:ROLE/NAME; an agent's also lanepool:host/HOST.
#pragma once

#include "base/result.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace lanepool::pki {

enum class Role { admin, operator_, user, agent, controller };
inline constexpr std::array roles{Role::admin, Role::operator_, Role::user, Role::agent, Role::controller};

std::string_view name(Role role);
std::optional<Role> role_named(std::string_view name);

struct PeerIdentity {
    Role role = Role::user;
    std::string name;
    std::string host;        // the only one that an agent speaks for; empty for all others
    std::string serial;      // lower-case hexadecimal, as is_revoked() takes it
    int64_t not_after_s = 0; // Unix time

    bool operator==(const PeerIdentity&) const = default;
};

// Reads the first certificate of PEM_CHAIN, the peer's own, of at most 64 KiB. It does not verify it: that a
// trusted CA has signed it, that it is not expired and that the peer has its key are the TLS library's to
// say, before this. Errors: protocol, when it is no certificate, is a CA's, or does not say who it is in each
// of the places, the same.
Result<PeerIdentity> identity_of(std::string_view pem_chain);

// Letters, digits, '.', '_' and '-', 1 to 63, the first a letter or digit: as hosts and devices are called.
bool is_name(std::string_view text);

} // namespace lanepool::pki
