// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "pki/identity.h"
#include "pool/input.h"

#include <optional>
#include <string>

namespace lanepool::controller {

// Who is at the other end of a call.
struct Peer {
    pool::Caller caller;
    // Whose agent it may be: a host, or "*" for all of them; empty: nobody's.
    std::string agent_of;
    // Nothing: a process of this machine. Else what it has shown, to be looked at again while it is
    // connected.
    std::optional<pki::PeerIdentity> certificate;

    bool speaks_for(std::string_view host) const { return agent_of == "*" || agent_of == host; }
};

} // namespace lanepool::controller
