// SPDX-License-Identifier: Apache-2.0
//
// The VFs of an NVMe drive are secondary controllers: until the drive's own controller, the primary one, has
// given them queues and interrupts and brought them online, they answer to nothing (NVM Express Base
// Specification 2.0, 8.26 Virtualization Enhancements). All of it is done through the primary controller,
// which stays with its host, in use or not.
#pragma once

#include "base/result.h"
#include "io/clock.h"
#include "local_devices/system.h"
#include "pci/types.h"

#include <optional>
#include <string>

namespace lanepool::local_devices {

// "/dev/nvme0"; none: PARENT is no NVMe drive, or not with its driver.
std::optional<std::string> nvme_node_of(System& system, const pci::Address& parent);

// Makes room for COUNT secondary controllers, before they exist: what queues and interrupts the primary holds
// beyond its own is taken from it, which takes a function-level reset of the parent; its driver lives through
// that, with the requests that are under way. Nothing to do where the room is there, or where the drive does
// not know Virtualization Management. Errors: no_space, io, timeout.
Result<> make_room_for_secondaries(System& system, const pci::Address& parent, unsigned count,
                                   io::TimePoint deadline);

// Brings VF number INDEX (from 0) of COUNT online anew, with its share of queues and interrupts. Of
// namespaces it has those which no other controller has: others are detached from it, and if none is left it
// gets the first one that is nobody's, if there is any. Errors: failed_precondition (a namespace cannot be
// kept apart), io.
Result<> bring_secondary_online(System& system, const pci::Address& parent, unsigned index, unsigned count);

// Brings those of COUNT VFs online that are not, and leaves the others, which may be in use, alone.
Result<> bring_secondaries_online(System& system, const pci::Address& parent, unsigned count);

} // namespace lanepool::local_devices
