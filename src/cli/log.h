// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace lanepool::cli {

// Daemons log to stderr, a line an event, with microseconds: the journal or a file takes it from there.
void set_up_log(const std::string& daemon);

} // namespace lanepool::cli
