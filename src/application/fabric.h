// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "io/event_loop.h"
#include "ntb/adapter.h"
#include "ntb/channel.h"
#include "smartio/errands.h"

#include <memory>

namespace lanepool::application {

// This host's place on the fabric, as long as it has one.
struct Fabric {
    Fabric(io::EventLoop& event_loop, ntb::Adapter& own_adapter, ntb::Channel& own_channel)
        : loop(event_loop), adapter(own_adapter), channel(own_channel), own(own_adapter.partition()),
          errands(event_loop) {}

    io::EventLoop& loop;
    ntb::Adapter& adapter;
    ntb::Channel& channel;
    const ntb::Partition own;
    smartio::Errands errands; // where the adapter is used

    // For callbacks that may come when all of this is gone: they hold it weakly.
    const std::shared_ptr<bool> alive = std::make_shared<bool>(true);

    bool reaches(ntb::Partition peer) const { return peer == own || channel.alive(peer); }
};

} // namespace lanepool::application
