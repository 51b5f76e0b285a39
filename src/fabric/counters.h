// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace lanepool::fabric {

// Why an access through a window did not arrive: reads then give all-ones, writes are dropped.
enum class Obstacle {
    no_window,  // the BAR has no window there
    link_down,  // of the source's or the target's port
    requester,  // not in the source's requester table
    bus_master, // the target's endpoint may not send into its host
    not_mapped, // the target's host lets its port reach nothing there
    read_only,  // it does, but for reading only
    failed,     // the target's memory or client did not answer, or too late
    too_many,   // too many are on their way already
};
inline constexpr std::array<std::string_view, 8> obstacle_names{
    "no_window", "link_down", "requester", "bus_master", "not_mapped", "read_only", "failed", "too_many"};

// What one port has handled since the switch started. Window accesses are those that a client sent as
// messages: what goes through memory that the client has mapped itself never comes by.
struct PortCounters {
    uint64_t register_reads = 0;
    uint64_t register_writes = 0;
    uint64_t config_accesses = 0;
    uint64_t window_reads = 0;
    uint64_t window_writes = 0;
    uint64_t forwarded_reads = 0; // of the former: passed on to the target's client as messages
    uint64_t forwarded_writes = 0;
    uint64_t window_events = 0; // writes that signalled an eventfd
    std::array<uint64_t, obstacle_names.size()> dropped{};
    uint64_t window_lookups = 0; // descriptors behind a window that were handed out
    uint64_t messages_sent = 0;
    uint64_t messages_refused = 0;
    uint64_t doorbells_rung = 0;
    uint64_t interrupts = 0;
    uint64_t interrupts_lost = 0; // nobody listened to the vector

    void drop(Obstacle obstacle) { ++dropped[static_cast<size_t>(obstacle)]; }
    uint64_t dropped_for(Obstacle obstacle) const { return dropped[static_cast<size_t>(obstacle)]; }
};

} // namespace lanepool::fabric
