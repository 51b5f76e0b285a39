// SPDX-License-Identifier: Apache-2.0
//
// This host's own kernel as the receiver of lent functions: what is asked of it beside the bridge. Calls
// block for files of sysfs and procfs.
#pragma once

#include "base/result.h"
#include "bridge/function.h"
#include "local_devices/system.h"
#include "pci/address.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace lanepool::agent {

// Both are null where this host's kernel cannot borrow: its adapter is no card.
struct OwnKernel {
    bridge::Bridge* bridge = nullptr;
    local_devices::System* system = nullptr; // used on several threads
};

struct LocalFunction {
    bool present = false;
    std::string driver; // empty: none
};
LocalFunction look_at(local_devices::System& system, const pci::Address& function);

// Who uses it, in words; empty: nobody.
std::string users_of(local_devices::System& system, const pci::Address& function);

// One past the last byte of memory (not of devices) among this machine's physical addresses. Errors:
// failed_precondition where the kernel does not say it, as to somebody who is not root.
Result<uint64_t> memory_end(local_devices::System& system);

} // namespace lanepool::agent
