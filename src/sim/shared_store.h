// SPDX-License-Identifier: Apache-2.0
//
// What several controllers share, as in etcd: their records, and the key of the one that leads. Each write
// says under which leadership it is made; docs/store.md tells how it is in the real one.
#pragma once

#include "sim/disk.h"

#include <cstdint>
#include <optional>

namespace lanepool::sim {

struct SharedStore {
    struct LeaderKey {
        uint64_t create_revision = 0; // of the leadership: grows with each
        uint64_t mod_revision = 0;    // of its last beat
    };

    uint64_t next_revision() { return ++revision; }
    bool is_led_by(uint64_t create_revision) const {
        return leader && leader->create_revision == create_revision;
    }

    Disk disk;
    std::optional<LeaderKey> leader;
    uint64_t revision = 0;
};

} // namespace lanepool::sim
