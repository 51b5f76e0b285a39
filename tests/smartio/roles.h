// SPDX-License-Identifier: Apache-2.0
//
// What the load does, each until something that it uses is killed: then it returns why, and is called again.
#pragma once

#include "smartio/progress.h"

#include <string>

namespace lanepool::load {

struct Options {
    std::string agent; // its socket
    uint64_t fdid = 0;
    uint64_t first_block = 0; // of those that this client writes
    uint32_t node = 0;        // where pong is
    uint32_t id = 0;          // of ping's and pong's segments and interrupts; ping's are the next
};

// Writes blocks of a shared drive and reads others back: each must hold what was last written there.
Result<> drive(const Options& options, Progress& progress);
// Writes a number into pong's memory and triggers its interrupt; pong writes it back.
Result<> ping(const Options& options, Progress& progress);
Result<> pong(const Options& options, Progress& progress);
// Does what a program must not: writes outside of what it has, connects to what is not shown (at NODE, where
// only ID is), asks for more than there is, and goes on using the drive after that was taken away. Says on
// its output how far it is.
Result<> hostile(const Options& options, Progress& progress);

} // namespace lanepool::load
