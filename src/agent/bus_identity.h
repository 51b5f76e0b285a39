// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/function_source.h"
#include "inventory/files.h"
#include "local_devices/system.h"

#include <string>

namespace lanepool::agent {

// Who a function on this machine's bus is, as sysfs says. Its serial number is part of who it is in the pool,
// so it must be the same whoever has the function: that of an NVMe drive is the one of its Identify data,
// which only a driver can tell (its host's, or ours once it has been taken); others have the one of their
// vital product data or Device Serial Number, which anybody can read; an SR-IOV function has its parent's.
class BusIdentity {
  public:
    // ROOTS: for tests.
    explicit BusIdentity(inventory::Roots roots = {}) : roots_(std::move(roots)) {}

    // Fills in `identity` and `serial_known`. Reads it all only when the function or its driver has changed:
    // vital product data are slow.
    void read(local_devices::System& system, const pci::Address& address, Sighting& seen);
    void forget() { key_.clear(); }

  private:
    const inventory::Roots roots_;
    std::string key_; // what IDENTITY was read for
    v1::DeviceIdentity identity_;
    bool serial_known_ = false;
};

} // namespace lanepool::agent
