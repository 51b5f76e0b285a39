// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lanepool::sim {

// What keeps a site right, each of which can be left out to see that the checks notice.
enum class Protection {
    fencing,            // the lender closes the ways of a loan itself
    epoch_check,        // it refuses steps of an epoch that is over
    reset_verification, // a reset or sanitize counts only if it has been seen to work
    write_ordering,     // what is said has been on disk before
    store_fencing,      // the store takes no writes of a controller that leads no more
    expulsion,          // the lender closes the ways of one of several shared loans when it ends
    own_host,           // a lender says what its own host has, and touches nothing of that
};
inline constexpr std::array protections{
    Protection::fencing,        Protection::epoch_check,   Protection::reset_verification,
    Protection::write_ordering, Protection::store_fencing, Protection::expulsion,
    Protection::own_host};
std::string_view name(Protection protection);
std::optional<Protection> protection(std::string_view name);

enum class Fault {
    message_lost,
    message_doubled,
    message_overtaken,
    message_late, // seconds after the connection that it belongs to
    connection_broken,
    partition,
    agent_crash,
    power_loss,
    controller_crash,
    controller_disk_full,
    agent_disk_full,
    unsynced_write_lost,
    reset_slow,
    reset_failed,
    reset_lied,
    sanitize_lied,
    device_silent,
    guest_died,
    guest_stubborn,
    attach_failed,
    expel_failed,
    time_of_day_set,
    // Where there are whole hosts:
    device_in_use, // by its own host: it cannot be taken
    take_late,     // it works, when nobody waits any more
    give_back_failed,
    functions_failed, // halfway: those that were there are gone
    driver_bound,     // by somebody, while the agent is not there
    driver_slow,      // of a borrowing host's own kernel, to take or to let go of a device
    // Where there are several controllers:
    controller_paused,
    controller_without_store,
    controller_without_agents,
    write_of_old_leader, // refused, unless store-fencing is left out
};
inline constexpr size_t fault_count = static_cast<size_t>(Fault::write_of_old_leader) + 1;
std::string_view name(Fault fault);

struct SimOptions {
    uint32_t hosts = 200; // one in four lends, some do both
    uint32_t devices_per_lender = 4;
    uint64_t loans = 2000; // that end, then the faults stop
    uint32_t controllers = 1;
    // Every second lender is a whole host: its devices are its own until they are taken, and again when it
    // starts anew, and one of them can have SR-IOV functions. Of the borrowers every third takes devices with
    // its own kernel, and another third with that or for its guest.
    bool whole_hosts = false;
    std::optional<Protection> without;
};

// What came of one seed.
struct SeedResult {
    uint64_t seed = 0;
    uint64_t loans = 0;  // asked for and over
    uint64_t active = 0; // of them, that a guest or an application has had
    uint64_t joined = 0; // a device was opened beside others
    uint64_t taken = 0;  // a device was taken from its own host
    uint64_t given_back = 0;
    uint64_t functions_lent = 0; // an SR-IOV function was opened
    uint64_t kernels_lent = 0;   // a host's own kernel took a device
    uint64_t stayed = 0;         // a loan that was asked back went on: somebody used it there
    uint64_t requests = 0;       // of people, refused ones included
    uint64_t events = 0;
    uint64_t checks = 0;
    uint64_t transactions = 0;
    uint64_t audit_entries = 0;
    uint64_t quarantines = 0;
    uint64_t elections = 0; // of one of several controllers
    int64_t simulated_us = 0;
    std::array<uint64_t, fault_count> faults{};
    std::string failure; // empty: everything was right
    uint64_t digest = 0; // of everything that was committed: the same for the same seed
};

// Runs one seed. Deterministic: a function of its arguments alone.
SeedResult simulate(uint64_t seed, const SimOptions& options);

} // namespace lanepool::sim
