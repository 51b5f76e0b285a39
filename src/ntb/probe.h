// SPDX-License-Identifier: Apache-2.0
//
// Finding out what a function is: whether it is an NT endpoint that we can drive, and where on which switch.
#pragma once

#include "base/result.h"
#include "ntb/adapter.h"
#include "ntb/switchtec.h"
#include "pci/function.h"

#include <array>
#include <cstdint>

namespace lanepool::ntb {

// Constant while the adapter is there.
struct Identity {
    switchtec::Generation generation = switchtec::Generation::gen4;
    Partition partition;
    uint64_t endpoints = 0; // partitions that have an endpoint, by bit; with our own
    uint64_t targets = 0;   // those of them that our windows and messages may go to, without our own
    pci::RequesterId requester;
    std::array<uint32_t, max_partitions> pffs{}; // PFF of each of the endpoints
};

inline bool has_partition(uint64_t set, Partition partition) {
    return partition.value < max_partitions && (set >> partition.value & 1) != 0;
}

// Errors: not_supported (another kind of device), protocol (its registers contradict each other).
Result<Identity> probe(pci::Function& function);

// Turns on memory accesses and bus mastering, or bus mastering off.
Result<> enable(pci::Function& function, bool on);

} // namespace lanepool::ntb
