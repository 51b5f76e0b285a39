// SPDX-License-Identifier: Apache-2.0
//
// The bytes of segment_protocol.h, nothing else.
#pragma once

#include "base/endian.h"

#include <cstdint>

namespace lanepool::application::wire {

struct Connect { // followed by user_bytes of the user's name
    le64 connection;
    le32 number;
    le16 flags; // connect_data or 0
    le16 user_bytes;
};
static_assert(sizeof(Connect) == 16);
inline constexpr uint16_t connect_data = 1;

struct Shown {
    le64 address;
    le64 size_bytes;
};
static_assert(sizeof(Shown) == 16);

struct ShownInterrupt {
    le64 event_address;
    Shown ring; // zeroes without data
};
static_assert(sizeof(ShownInterrupt) == 24);

struct Ids { // followed by COUNT le64
    le32 count;
    le32 reserved;
};
static_assert(sizeof(Ids) == 8);

} // namespace lanepool::application::wire
