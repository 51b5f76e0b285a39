// SPDX-License-Identifier: Apache-2.0
//
// What processes of this host show to those of others.
#pragma once

#include "application/shared_export.h"
#include "session/message.h"

#include <compare>
#include <map>
#include <optional>
#include <set>

namespace lanepool::application {

// Of a message to a process.
using Fields = session::Json::object_t;

// A connection of another host's, or of this one: the number is its agent's.
struct PeerConnection {
    ntb::Partition peer;
    uint64_t id = 0;
    auto operator<=>(const PeerConnection&) const = default;
};

// The session that owns something, as far as what it owns needs it.
class Owner {
  public:
    virtual ~Owner() = default;
    // Must not end the session before it returns.
    virtual void event(Fields fields, std::vector<SharedFd> fds) = 0;
    virtual uint64_t new_handle() = 0;
};

struct Segment {
    Owner* owner = nullptr; // null: it has ended
    uint64_t handle = 0;    // the owner's
    uint32_t id = 0;
    bool is_private = false;
    uint64_t size_bytes = 0;
    std::optional<MemoryRef> memory;
    std::shared_ptr<SharedExport> shown; // once it has memory
    bool available = false;
    bool changing = false; // becoming available, or not
    size_t maps = 0;       // of devices
    std::set<PeerConnection> connections;
};

struct Interrupt {
    struct Sender {
        uint64_t handle = 0; // the owner's; 0: he has not heard of it yet, or it has no messages
        ntb::Export ring;
    };
    Owner* owner = nullptr;
    uint64_t handle = 0;
    uint32_t number = 0;
    bool data = false;
    SharedFd event;
    ntb::Export shown;
    std::map<PeerConnection, Sender> senders;
};

} // namespace lanepool::application
