// SPDX-License-Identifier: Apache-2.0
//
// What is tried on a drive that has been borrowed.
#pragma once

#include "qualify/report.h"
#include "qualify/trial_bench.h"

#include <functional>

namespace lanepool::qualify {

using OnProgress = std::function<Result<>(const std::string& doing)>; // an error ends it

// Writes random data to the whole first BYTES of the drive, then reads all of it back: only then, so that no
// cache of one transfer answers. Without an id; failed, or errors of the drive.
Result<Check> try_load(TrialDrive& drive, uint64_t bytes, uint64_t seed, const OnProgress& progress);

// Tells the drive to transfer where it may not. Passed: every command failed, or what it transferred was
// dropped.
Result<Check> try_isolation(TrialDrive& drive, uint64_t seed);

// What the first BLOCKS, which somebody has filled with SEED, are now: passed where all are erased.
Result<Check> try_erased(TrialDrive& drive, uint64_t blocks, uint64_t seed);

} // namespace lanepool::qualify
