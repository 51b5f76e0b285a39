// SPDX-License-Identifier: Apache-2.0
//
// Divides a drive among clients that submit commands by themselves. Nobody sorts their commands: each client
// counts what it submits, and stops at an allowance that is computed here now and then. So it does not matter
// how the drive arbitrates, or how deep whose queue is.
//
// It is fair queueing in virtual time. A client's service is what it has submitted, divided by its weight.
// The virtual time V is the least service of all clients that want more; nobody may be more than a window
// ahead of it. Who did not want anything for a while is put at V: time that was not used is not kept.
//
// A client may also lag because it does not want more, or cannot (one command at a time, and the drive
// answers none faster). Then V must not wait for it, or the drive would idle. What tells the two apart is the
// total: as long as it is about what the drive can do, whoever lags is served as fast as possible already,
// and V waits. When it falls below, V runs by itself, just so fast that the total stays a little under what
// the drive can do. That little keeps the drive's queues short: one that lagged because of the others is
// faster now, and has its share back soon. What the drive can do is looked at now and then, by letting V run
// faster for a moment.
//
// Pure: no clock, no memory of anybody's. Not thread-safe.
#pragma once

#include "io/clock.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>

namespace lanepool::sharing {

// What work is counted in: a command costs one unit for every 4 KiB that it has begun, at least one.
inline constexpr uint64_t unit_bytes = 4096;
constexpr uint64_t units_of(uint64_t size_bytes) {
    return size_bytes <= unit_bytes ? 1 : (size_bytes - 1) / unit_bytes + 1;
}

inline constexpr uint64_t no_limit = ~uint64_t{0};

inline constexpr unsigned max_weight = 1000;

class Pacer {
  public:
    // What a client says of itself. They may be lies: then it takes more than its share, as it could anyway.
    struct Counters {
        uint64_t submitted = 0; // units
        uint64_t completed = 0; // units
        uint64_t held = 0;      // how often it has found commands that it must not submit yet
    };

    // A client that begins with COUNTERS. WEIGHT is 1 to max_weight. An earlier one of that SLOT is replaced.
    void add(uint32_t slot, unsigned weight, const Counters& counters);
    void remove(uint32_t slot);
    size_t size() const { return clients_.size(); }

    // What the client of SLOT says now. All of them, then tick().
    void update(uint32_t slot, const Counters& counters);
    // Computes allowances anew, ELAPSED after the last time.
    void tick(io::Duration elapsed);
    // How far COUNTERS::submitted of the client may go; no_limit while nobody else wants anything.
    uint64_t allowance(uint32_t slot) const;

    // For people: units a second, over the last tenth of a second or so.
    double rate(uint32_t slot) const;
    double total_rate() const;

  private:
    struct Client {
        double weight = 1;
        Counters counters;
        double service = 0; // submitted, divided by weight, since some start; comparable among clients
        double rate = 0;    // units completed a second, smoothed over some ticks
        double shown_rate = 0;
        uint64_t submitted = 0; // units since the last tick
        uint64_t completed = 0;
        bool held = false;       // in the last interval
        bool active = false;     // wanted something in the last interval
        unsigned idle_ticks = 0; // since it was
        uint64_t allowance = no_limit;
    };

    void observe(Client& client);
    void measure(double seconds);
    void next_phase(bool found_more);
    void advance(double seconds, double window);
    void allow(Client& client, double window) const;

    std::map<uint32_t, Client> clients_;
    double virtual_time_ = 0;

    // All in units a second.
    double rate_ = 0;     // that are completed, smoothed over some ticks
    double capacity_ = 0; // what the drive can do, as far as is known
    double pushed_ = 0;   // what V's own speed gives to those who are held
    double shown_rate_ = 0;
    double slowest_ = 0; // tick that was seen lately, in seconds

    // Time is looked at in windows; of some the drive is let do what it can.
    enum class Phase { steady, ramping, probing, draining };
    Phase phase_ = Phase::steady;
    unsigned windows_ = 0; // in this phase
    double window_seconds_ = 0;
    double window_held_seconds_ = 0;
    double window_shared_seconds_ = 0; // in which several wanted something
    uint64_t window_units_ = 0;
};

} // namespace lanepool::sharing
