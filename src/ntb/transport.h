// SPDX-License-Identifier: Apache-2.0
//
// What a channel needs of the fabric: so that its protocol can be tested over plain memory.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "ntb/adapter.h"
#include "ntb/mailbox.h"

#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace lanepool::ntb {

// The way to one peer: our area in its memory, and its attention.
class PeerLink : public RemoteMemory {
  public:
    // Makes the peer look at its areas, soon. May get lost: everybody looks once a heartbeat.
    virtual void wake() = 0;
};

// Used on the channel's loop only, and calls back there.
class Transport {
  public:
    virtual ~Transport() = default;

    virtual Partition own() const = 0;
    virtual std::vector<Partition> peers() const = 0;
    // The area into which PEER writes.
    virtual std::span<std::byte> area(Partition peer) = 0;
    // Signalled when a peer has written.
    virtual const UniqueFd& wake_eventfd() const = 0;
    // What peers are to write to for that; 0 when the adapter cannot: then they send messages.
    virtual uint64_t wake_address() const = 0;

    // Opens a way to PEER, whose event is at WAKE_ADDRESS (0: not known). Answers later, once, unless the
    // transport is destroyed before. At most one a peer at a time.
    using Connected = std::function<void(Result<std::unique_ptr<PeerLink>>)>;
    virtual void connect(Partition peer, uint64_t wake_address, Connected connected) = 0;
    // Finds out which links are up.
    virtual void check_links(std::function<void(Partition peer, bool up)> found) = 0;
};

} // namespace lanepool::ntb
