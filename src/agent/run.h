// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/options.h"
#include "base/result.h"

namespace lanepool::agent {

// The process `lanepool agent`: runs until SIGTERM or SIGINT and returns its exit code.
Result<int> run_agent(const AgentOptions& options);

} // namespace lanepool::agent
