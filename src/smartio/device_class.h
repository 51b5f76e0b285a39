// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"
#include "io/clock.h"
#include "pci/function.h"

#include <cstdint>
#include <string>

namespace lanepool::smartio {

struct DeviceIdentity {
    std::string model;
    std::string serial;
    std::string firmware;
    uint64_t capacity_bytes = 0; // of a drive
};

// What lending must know of a class of devices (NVMe, ...) beyond PCI. Called on the lender's own thread,
// never while the device is lent; each call leaves the function without DMA mappings and interrupts.
class DeviceClass {
  public:
    virtual ~DeviceClass() = default;
    virtual Result<DeviceIdentity> identify(pci::Function& device) = 0;
    // Called after a reset whose generic part (config space, command register) was found good.
    virtual Result<> verify_reset(pci::Function& device) = 0;
    // Removes what the borrower left on it, within DEADLINE. Errors: timeout, not_supported, io.
    virtual Result<> wipe(pci::Function& device, io::Duration deadline) = 0;
};

} // namespace lanepool::smartio
