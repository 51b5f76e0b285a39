// SPDX-License-Identifier: Apache-2.0
//
// The bytes of loan_protocol.h, nothing else.
#pragma once

#include "base/endian.h"

#include <array>
#include <cstdint>

namespace lanepool::smartio::wire {

struct Key {
    le64 fdid;
    le64 loan;
    le64 epoch;
};
static_assert(sizeof(Key) == 24);

struct Map {
    Key key;
    le64 iova;
    le64 size_bytes;
    le64 address;
    le32 flags; // map_writable or 0
    le32 reserved;
};
static_assert(sizeof(Map) == 56);
inline constexpr uint32_t map_writable = 1;

struct Unmap {
    Key key;
    le64 iova;
    le64 size_bytes;
};
static_assert(sizeof(Unmap) == 40);

struct Place {
    Key key;
    le64 address;
    le64 size_bytes;
    le32 partition;
    le32 flags; // map_writable or 0
};
static_assert(sizeof(Place) == 48);

struct Placed {
    le64 iova;
};
static_assert(sizeof(Placed) == 8);

struct Segment { // connect, remove
    Key key;
    le32 id;
    le32 flags; // segment_of_device or 0
};
static_assert(sizeof(Segment) == 32);
inline constexpr uint32_t segment_of_device = 1;

struct CreateSegment {
    Segment segment;
    le64 size_bytes;
};
static_assert(sizeof(CreateSegment) == 40);

struct ConnectedSegment {
    le64 address;
    le64 size_bytes;
};
static_assert(sizeof(ConnectedSegment) == 16);

struct SetIrqs { // followed by (count + 7) / 8 bytes, bit i % 8 of byte i / 8: vector i has an event
    Key key;
    le32 index;
    le32 count;
    le64 address;
};
static_assert(sizeof(SetIrqs) == 40);

struct MaskIrq {
    Key key;
    le32 index;
    le32 vector;
    le32 masked; // 0 or 1
    le32 reserved;
};
static_assert(sizeof(MaskIrq) == 40);

struct ConfigWrite {
    Key key;
    le16 offset_bytes;
    le16 value;
    le32 reserved;
};
static_assert(sizeof(ConfigWrite) == 32);

struct Region {
    le64 size_bytes;
    le64 address;
    le32 flags;
    le32 areas; // how many of the areas that follow the header are this region's, in order
};
static_assert(sizeof(Region) == 24);
inline constexpr uint32_t region_readable = 1;
inline constexpr uint32_t region_writable = 2;

struct Opened { // followed by the areas of all regions, then by the config space
    le16 version;
    le16 flags;
    le32 config_bytes;
    std::array<le32, 3> vectors;
    le32 reserved;
    le64 flush_address;
    std::array<Region, 6> bars;
};
static_assert(sizeof(Opened) == 176);
inline constexpr uint16_t opened_version = 1;
inline constexpr uint16_t memory_survives_reset = 1;
inline constexpr uint16_t msix_table_apart = 2;

struct Area {
    le64 offset_bytes;
    le64 size_bytes;
};
static_assert(sizeof(Area) == 16);

} // namespace lanepool::smartio::wire
