// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "sisci/segments.h"

namespace lanepool::sisci {

// A piece of a segment in this process.
struct Map final : Object {
    // Exactly one of the two.
    Hold<LocalSegment> local;
    Hold<RemoteSegment> remote;
    MappedRange range;

    bool writable() const { return range.access() == Access::read_write; }
    // What it leads to is gone.
    bool lost() const { return remote && remote->lost; }
};
template <>
struct Named<sci_map_t> {
    using type = Map;
};

struct Sequence final : Object {
    Hold<Map> map;
};
template <>
struct Named<sci_sequence_t> {
    using type = Sequence;
};

} // namespace lanepool::sisci
