// SPDX-License-Identifier: Apache-2.0
//
// What all streams of clients have in common. gRPC calls a stream on threads of its own; a stream does
// nothing there but post to the controller's loop, and all else happens on the loop's thread. So nothing here
// needs a lock, and a client that hangs keeps nobody waiting: its stream has one message on the way and at
// most a few that wait.
#pragma once

#include "pki/identity.h"

#include <grpcpp/support/status.h>
#include <optional>

namespace lanepool::controller {

class Stream {
  public:
    virtual ~Stream() = default;
    // Ends it with STATUS, unless it has ended already.
    virtual void close(const grpc::Status& status) = 0;
    // By what its peer was let in, from another machine; set before it starts.
    std::optional<pki::PeerIdentity> certificate;
};

} // namespace lanepool::controller
