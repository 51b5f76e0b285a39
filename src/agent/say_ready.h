// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"

namespace lanepool::agent {

// Tells a service manager that this service has started (sd_notify(3): "READY=1" to $NOTIFY_SOCKET), if there
// is one that wants to hear it.
Result<> say_ready();

} // namespace lanepool::agent
