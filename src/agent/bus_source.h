// SPDX-License-Identifier: Apache-2.0
//
// Functions on this machine's own PCI bus, through its kernel: custody takes them from their drivers, VFIO
// opens them, sysfs tells who they are.
#pragma once

#include "agent/function_source.h"
#include "local_devices/custody.h"
#include "local_devices/system.h"

#include <filesystem>
#include <memory>

namespace lanepool::agent {

// What all functions of one machine share. Thread-safe.
struct Bus {
    // STATE_FILE: what has been taken, over restarts. May block for as long as it takes to recover what a
    // crash has left half done.
    static Result<std::shared_ptr<Bus>> open(const std::filesystem::path& state_file);

    local_devices::Paths paths;
    std::unique_ptr<local_devices::System> system;
    std::unique_ptr<local_devices::Custody> custody;
};

std::shared_ptr<FunctionSource> bus_device(std::shared_ptr<Bus> bus, const pci::Address& address);
// Opening it takes it: it is for lanepool alone, and stays taken. Only an NT endpoint of a Switchtec switch
// is: anything else is refused (failed_precondition), the switch's management endpoint above all.
std::shared_ptr<FunctionSource> bus_adapter(std::shared_ptr<Bus> bus, const pci::Address& address);

} // namespace lanepool::agent
