// SPDX-License-Identifier: Apache-2.0
//
// What the kernel has made of a PCI function: device nodes, block devices and what is built on top of them,
// network interfaces. Read from the function's folder in sysfs, downwards.
#pragma once

#include "local_devices/system.h"
#include "pci/types.h"

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace lanepool::local_devices {

struct DeviceNode {
    std::string path;   // "/dev/nvme0n1p1"
    std::string folder; // its own in sysfs
    DeviceNumber number;
    std::string on; // for what is built on another block device: the path of that one; empty otherwise
    std::string title() const; // "/dev/nvme0n1p1", "/dev/dm-0 (vg-root)"
    std::string called;        // the name of a device-mapper volume; empty: none
};

struct KernelDevices {
    std::vector<DeviceNode> nodes;
    std::vector<std::string> interfaces; // "eth2"
    std::vector<std::string> stacked;    // sentences: "/dev/sda2 is part of /dev/dm-0 (LVM volume vg-root)"
    bool hidden_interface = false;       // it has a network interface that is not in this namespace
};

// Of FUNCTIONS together. Limited to most_nodes; a machine with more on one card is not known.
KernelDevices kernel_devices_of(System& system, std::span<const pci::Address> functions);
inline constexpr size_t most_nodes = 4096;

} // namespace lanepool::local_devices
