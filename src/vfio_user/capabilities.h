// SPDX-License-Identifier: Apache-2.0
//
// What each side says of itself in VFIO_USER_VERSION: JSON behind the version numbers.
#pragma once

#include "vfio_user/wire.h"

#include <optional>
#include <string>

namespace lanepool::vfio_user {

// Our extension, {"lanepool": {"version": 1, "fresh_memory_on_reset": true}}.
struct LanepoolCapability {
    uint32_t version = 1;
    bool fresh_memory_on_reset = false; // said by the server
    bool operator==(const LanepoolCapability&) const = default;
};

// The defaults are those of a side that does not say.
struct Capabilities {
    uint32_t max_msg_fds = 1; // that the sender can receive in one message
    uint32_t max_data_xfer_bytes = 1 << 20;
    uint64_t page_sizes = 4096; // of DMA mappings, or'ed
    uint32_t max_dma_maps = 65535;
    bool write_multiple = false;
    // Commands of the server go over a socket of their own (twin_socket): proposed by a client; given by a
    // server as the index of a descriptor in its version reply.
    bool twin_socket = false;
    uint32_t twin_fd_index = 0;
    std::optional<LanepoolCapability> lanepool;
    bool operator==(const Capabilities&) const = default;
};

// What we propose as a client.
Capabilities client_capabilities();
// What we answer as a server to a client that proposed PROPOSED.
Capabilities server_capabilities(const Capabilities& proposed, bool fresh_memory_on_reset);

// The JSON with its terminating NUL.
std::string to_json(const Capabilities& capabilities);
// From the bytes behind a Version: none at all, or JSON with a terminating NUL. Unknown names are skipped.
// Errors: protocol for anything malformed or a limit of nothing.
Result<Capabilities> parse_capabilities(std::span<const std::byte> bytes);

} // namespace lanepool::vfio_user
