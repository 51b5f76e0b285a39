// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "host/workload.h"

namespace lanepool::bench {

// A drive that this process has borrowed alone through the agent at AGENT, driven by our user-space driver.
// FILE is what the drive keeps its blocks in. The drive is written once, so that no block of the file is a
// hole.
Result<std::unique_ptr<System>> make_borrowed(const std::string& name, const std::string& agent,
                                              uint64_t fdid, const std::string& file);

} // namespace lanepool::bench
