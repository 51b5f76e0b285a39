// SPDX-License-Identifier: Apache-2.0
//
// What a device is tried with: its pool, as an operator has it, and a program that borrows it. A trial calls
// these from one thread; they block. Made of a real pool by the command line, of a made-up one by tests.
#pragma once

#include "base/result.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace lanepool::qualify {

// Where a drive is told to transfer to or from although it may not: memory of the trial that it could reach
// until just now, or an address at which it never had any.
enum class Stray { revoked, unmapped };

// A drive that the trial has borrowed, driven over everything that a loan leads through.
class TrialDrive {
  public:
    virtual ~TrialDrive() = default;
    virtual uint64_t blocks() const = 0;
    virtual uint32_t block_bytes() const = 0;
    virtual uint32_t transfer_blocks() const = 0; // the most of one call

    // Whole blocks. Errors: what became of the command.
    virtual Result<> write(uint64_t first_block, std::span<const std::byte> data) = 0;
    virtual Result<> read(uint64_t first_block, std::span<std::byte> data) = 0;

    // Memory of this process that the drive could reach and cannot any more: a block of it.
    virtual Result<std::span<std::byte>> revoked_memory() = 0;
    // Tell the drive to read a block to there, or to write one from there. No error: it said that it has.
    virtual Result<> read_to(Stray where, uint64_t block) = 0;
    virtual Result<> write_from(Stray where, uint64_t block) = 0;
};

// A loan of the device. Its destructor gives it back.
class TrialLoan {
  public:
    virtual ~TrialLoan() = default;
    virtual Result<> give_back() = 0;
    // Takes the drive over; it lives as long as the loan. Errors: also where it does not start.
    virtual Result<TrialDrive*> drive() = 0;
};

// A process that has borrowed the device and uses it: a drive by writing fill()'s bytes of `seed` to its
// first blocks, over and over. Its destructor kills it.
class TrialBorrower {
  public:
    virtual ~TrialBorrower() = default;
    // Of a drive: how many blocks it has written at least once.
    virtual uint64_t blocks() const = 0;
    // By SIGKILL; returns when it is dead. Errors: it had ended before, by itself.
    virtual Result<> kill() = 0;
};

struct TrialState {
    std::string state; // as `lanepool ls` prints it
    std::string reason;
};

class TrialBench {
  public:
    virtual ~TrialBench() = default;
    virtual bool is_drive() const = 0;
    // Its own host can use it, by a driver.
    virtual bool has_host() const = 0;

    virtual Result<TrialState> look() = 0;
    virtual Result<> restore() = 0;
    virtual Result<> leave_local() = 0;
    virtual Result<> reset() = 0;
    // The driver that has it on its own host; empty: none.
    virtual Result<std::string> host_driver() = 0;
    virtual Result<std::unique_ptr<TrialLoan>> borrow() = 0;
    // Returns when it uses the device.
    virtual Result<std::unique_ptr<TrialBorrower>> start_borrower(uint64_t seed) = 0;

    // A short while, between two looks.
    virtual void pause() = 0;
    // The user wants to end this: nothing new is begun, everything is given back.
    virtual bool cancelled() const = 0;
    // What is being done, for whoever waits.
    virtual void progress(const std::string& doing) = 0;
};

// The bytes that a trial writes to blocks from FIRST_BLOCK on: random, and different in each block, so that
// each can be told from all others. DATA: whole blocks.
void fill(std::span<std::byte> data, uint32_t block_bytes, uint64_t first_block, uint64_t seed);

} // namespace lanepool::qualify
