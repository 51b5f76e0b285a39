// SPDX-License-Identifier: Apache-2.0
//
// Cuts a byte stream into messages. It says what it wants next, a transport fills that in: so a socket, a
// test and a fuzzer all drive the same parser.
#pragma once

#include "base/unique_fd.h"
#include "vfio_user/wire.h"

#include <optional>

namespace lanepool::vfio_user {

struct Message {
    wire::Header header;
    std::vector<std::byte> payload;
    std::vector<UniqueFd> fds;
    bool fds_lost = false; // more were sent than could be received
};

class FrameReader {
  public:
    // The bytes that the transport should fill next, never empty. Never reaches into the next message: on a
    // Unix socket descriptors arrive with the first byte of the write that carried them, so what comes with
    // a read belongs to the message that is being read.
    std::span<std::byte> wanted();
    // COUNT bytes of wanted() have been filled in. Errors: protocol, after which the stream is worth nothing.
    Result<> filled(size_t count, std::vector<UniqueFd> fds = {}, bool fds_lost = false);
    // The message, once it is complete.
    std::optional<Message> take();

  private:
    bool header_complete() const { return filled_bytes_ >= sizeof(wire::Header); }
    std::span<std::byte> header_bytes() { return std::as_writable_bytes(std::span(&message_.header, 1)); }

    Message message_;
    size_t filled_bytes_ = 0; // of the message with its header
};

} // namespace lanepool::vfio_user
