// SPDX-License-Identifier: Apache-2.0
//
// What a client and the manager of a shared drive say to each other by data interrupts: one JSON object a
// message. Decoding checks every field and answers `protocol` for what is missing or out of its range.
#pragma once

#include "base/address.h"
#include "base/result.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace lanepool::sharing {

inline constexpr uint64_t message_version = 1;

// A client asks for a queue pair over memory of its own.
struct Join {
    uint32_t reply = 0;   // number of the client's data interrupt, for the answer
    uint32_t segment = 0; // id of the client's segment, with its ClientPage
    uint16_t depth = 0;   // commands in flight; each queue has one entry more
    Iova submission;      // where the drive finds the queues
    Iova completion;
};

// What it is given.
struct Joined {
    uint64_t generation = 0;
    uint32_t slot = 0;
    uint16_t queue = 0;
    uint16_t weight = 0;
    uint32_t nsid = 0;
    uint64_t first_block = 0;
    uint64_t blocks = 0;
    bool read_only = false;
};

// From a client: either a join or, without one, a leave: by then nothing of it is in flight.
struct Request {
    uint64_t token = 0; // of the client's choice; comes back with the answer
    std::optional<Join> join;
};
// From the manager.
struct Answer {
    uint64_t token = 0;
    Result<std::optional<Joined>> outcome; // without Joined: the leave is done
};

std::vector<std::byte> encode(const Request& request);
std::vector<std::byte> encode(const Answer& answer);
Result<Request> decode_request(std::span<const std::byte> message);
Result<Answer> decode_answer(std::span<const std::byte> message);

} // namespace lanepool::sharing
