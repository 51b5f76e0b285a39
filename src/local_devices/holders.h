// SPDX-License-Identifier: Apache-2.0
//
// Who on this machine uses a PCI function: what has to be known before its driver is unbound.
#pragma once

#include "base/result.h"
#include "local_devices/system.h"
#include "pci/types.h"

#include <span>
#include <string>
#include <vector>

namespace lanepool::local_devices {

// Everybody who uses one of FUNCTIONS, each as a sentence, at most most_holders: mounted file systems (also
// on partitions, on what LVM, RAID and encryption make of them, and in other mount namespaces as far as /proc
// shows them), swap, other kernel users of block devices, network interfaces that are up or part of another
// one, virtual functions, and processes that have a device node or register file open. What a process has
// mapped and closed again cannot be seen.
std::vector<std::string> holders_of(System& system, std::span<const pci::Address> functions);
inline constexpr size_t most_holders = 32;

// The processes that have one of FUNCTIONS open through VFIO.
std::vector<std::string> vfio_users_of(System& system, std::span<const pci::Address> functions);

} // namespace lanepool::local_devices
