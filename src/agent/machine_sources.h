// SPDX-License-Identifier: Apache-2.0
//
// The functions of the machine that the agent runs on.
#pragma once

#include "agent/function_source.h"

#include <filesystem>
#include <memory>

namespace lanepool::agent {

// STATE: a folder that survives restarts; what is taken from this machine's drivers is written there. Nothing
// is touched, or asked of the machine, before the first place on its bus is named.
std::unique_ptr<FunctionSources> machine_sources(std::filesystem::path state);

} // namespace lanepool::agent
