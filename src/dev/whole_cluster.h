// SPDX-License-Identifier: Apache-2.0
//
// An embedded cluster whose hosts are whole Linux machines, each in a QEMU of its own with the agent inside;
// fabric and controllers run on this one. In the process table a host is "host-NAME", and its folder is
// called like that, too.
#pragma once

#include "dev/cluster.h"

namespace lanepool::dev {

// The part of up() for them: options.whole, and where that says nothing what the folder's cluster has.
Result<> up_whole_hosts(const ClusterOptions& options, const Report& report);

} // namespace lanepool::dev
