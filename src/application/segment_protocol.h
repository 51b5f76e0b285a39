// SPDX-License-Identifier: Apache-2.0
//
// What agents say to each other, over ntb::Channel, about the segments and interrupts that applications show
// to those of other hosts. A connection's number is its connector's agent's, never used twice while both
// live. When a peer dies or starts anew both sides forget every connection with it. Bodies are packed
// little-endian structs of exactly the size that their fields call for; decoding checks every field and
// answers `protocol` for anything else.
#pragma once

#include "base/address.h"
#include "base/result.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace lanepool::application {

// ntb::Channel's kind. The numbers are fixed for ever; new ones are added at the end.
enum class SegmentRequest : uint16_t {
    connect_segment = 0x200,   // Connect. Answer: Shown. Errors: not_found (no such id, or not available now)
    connect_interrupt = 0x201, // Connect. Answer: ShownInterrupt. Errors: as above
    disconnect = 0x202,        // ids, to who shows. Answer: empty, also for those that he does not know
    gone = 0x203,              // ids, to who has connected: what they led to is no more. Answer: as above
};
inline constexpr uint16_t first_segment_kind = 0x200;
inline constexpr uint16_t last_segment_kind = 0x2ff; // reserved for segments

// Errors: not_supported for a number that has no meaning (yet).
Result<SegmentRequest> segment_request(uint16_t kind);

inline constexpr size_t max_user_bytes = 256;
inline constexpr size_t max_ids = 1000; // of one message
inline constexpr uint64_t max_shown_bytes = uint64_t{1} << 40;

struct Connect {
    uint64_t connection = 0;
    uint32_t number = 0; // the segment's id or the interrupt's number
    bool data = false;   // of an interrupt: with messages
    std::string user;    // who asks, on the connector's host: for people
    bool operator==(const Connect&) const = default;
};

// Where something lies on the fabric, at who shows it.
struct Shown {
    BusAddress address;
    uint64_t size_bytes = 0;
    bool operator==(const Shown&) const = default;
};

struct ShownInterrupt {
    BusAddress event;
    Shown ring; // size 0: without data
    bool operator==(const ShownInterrupt&) const = default;
};

std::vector<std::byte> encode(const Connect& connect); // a longer user's name is cut
std::vector<std::byte> encode(const Shown& shown);
std::vector<std::byte> encode(const ShownInterrupt& shown);
std::vector<std::byte> encode_ids(std::span<const uint64_t> ids); // at most max_ids

Result<Connect> decode_connect(std::span<const std::byte> body);
Result<Shown> decode_shown(std::span<const std::byte> body);
Result<ShownInterrupt> decode_shown_interrupt(std::span<const std::byte> body);
Result<std::vector<uint64_t>> decode_ids(std::span<const std::byte> body);

} // namespace lanepool::application
