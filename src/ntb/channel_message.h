// SPDX-License-Identifier: Apache-2.0
//
// What the records of a channel say: a request, its answer, or its error.
#pragma once

#include "base/result.h"

#include <cstdint>
#include <span>
#include <vector>

namespace lanepool::ntb {

enum class MessageType : uint16_t { request = 1, answer = 2, error = 3 };

struct ChannelMessage {
    MessageType type = MessageType::request;
    uint16_t kind = 0; // of a request
    uint64_t id = 0;   // the requester's; repeated by the answer
    std::vector<std::byte> body;
};

std::vector<std::byte> encode_message(MessageType type, uint16_t kind, uint64_t id,
                                      std::span<const std::byte> body);
// Errors: protocol.
Result<ChannelMessage> decode_message(std::span<const std::byte> record);

// The body of an error: its stable name, and the message, cut to what is reasonable.
std::vector<std::byte> encode_error(const Error& error);
// An error that this version does not know, or that cannot be read, becomes `internal` with what can be read.
Error decode_error(std::span<const std::byte> body);

} // namespace lanepool::ntb
