// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "io/clock.h"
#include "ntb/switchtec.h"
#include "pci/types.h"

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

namespace lanepool::fabric {

// What a partition may do: set by who configures the switch, as on a card, and not by any register.
struct PartitionPolicy {
    uint64_t targets = 0; // partitions that its windows, messages and doorbells may go to, by bit
    uint64_t control = 0; // partitions whose control block it may read and write (the access vector), by bit
};

struct SwitchOptions {
    unsigned ports = 16; // 1 to 48
    // The window BARs, powers of two. BAR 2 is meant for many small LUT windows (one a lent BAR), BAR 4 for
    // large ones (the RAM of a guest); drivers split the 512 LUT entries between them (ntb/switchtec.h).
    // Nobody maps a window BAR as a whole, so a large one costs nothing; a guest that shall use the adapter
    // itself needs one that its firmware can place.
    uint64_t bar2_bytes = uint64_t{64} << 20;
    uint64_t bar4_bytes = uint64_t{256} << 30;
    // 1 to 512: what each partition has of the switch's LUT. Linux's own driver counts 128 windows at most,
    // and fails with the ones behind them.
    unsigned lut_entries = ntb::switchtec::max_lut_entries;
    // One for each port; empty: everybody reaches everybody, and configures itself only.
    std::vector<PartitionPolicy> policies = {};
    // How long an access waits for memory that only the target's client can read; all-ones after that. A
    // client that has the same limit for its own messages must not have to wait longer: QEMU waits
    // x-msg-timeout, 5 s by default.
    io::Duration peer_read_timeout = std::chrono::seconds(2);
};

// For drivers that know one peer only, such as Linux's: ports 2k and 2k+1 are a pair, and each may configure
// the other's windows.
std::vector<PartitionPolicy> paired_policies(unsigned ports);
// Everybody reaches everybody else.
std::vector<PartitionPolicy> open_policies(unsigned ports);

// Bytes of the window BAR in each slot; 0: no windows there.
using WindowBars = std::array<uint64_t, ntb::switchtec::bar_slots>;

inline constexpr uint16_t endpoint_device_id = 0x4000; // Gen4, PFX 100xG4
inline constexpr unsigned endpoint_vectors = 32;       // MSI and MSI-X
// What every access of a port's client carries: there is nothing in the protocol that would tell a host's own
// accesses from those of a device behind it.
inline constexpr pci::RequesterId host_requester{0x0008};

} // namespace lanepool::fabric
