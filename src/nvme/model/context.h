// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "io/clock.h"
#include "nvme/model/engine.h"
#include "nvme/model/features.h"
#include "nvme/model/identity.h"
#include "nvme/model/interrupts.h"
#include "nvme/model/media.h"

namespace lanepool::nvme::model {

// What commands work on.
struct Context {
    const Identity& identity;
    Engine& engine;
    Media& media;
    Features& features;
    const Interrupts& interrupts;
    const io::Clock& clock;
    io::TimePoint powered_since;
    // Why I/O commands are refused although the media would take them: success, or what an erasure that waits
    // for its turn will be.
    StatusCode erase_waiting = StatusCode::success;
};

} // namespace lanepool::nvme::model
