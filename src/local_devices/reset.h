// SPDX-License-Identifier: Apache-2.0
//
// Which of the kernel's ways of resetting a function really works. VFIO_DEVICE_RESET tries the methods in the
// order of the function's reset_method attribute (Linux, Documentation/ABI/testing/sysfs-bus-pci), and what
// stands there is what the kernel believed when it found the function: a list may be stale, and a method may
// lie. So each is tried and looked at, and the list is set to the one that works before anybody opens it.
#pragma once

#include "base/result.h"
#include "local_devices/system.h"
#include "pci/types.h"

#include <string>
#include <vector>

namespace lanepool::local_devices {

// As the kernel would try them; empty: it knows no way.
Result<std::vector<std::string>> reset_methods(System& system, const pci::Address& function);

// The same, the best first, without those that would reach functions other than this one.
Result<std::vector<std::string>> usable_reset_methods(System& system, const pci::Address& function);

// Resets FUNCTION, which nobody uses, by each usable method until one works; leaves that one alone in
// reset_method and returns it. Works: the kernel says so, and the function answers as before. Errors:
// failed_precondition: none works, and why each does not; reset_method is then as it was.
Result<std::string> choose_reset_method(System& system, const pci::Address& function);

} // namespace lanepool::local_devices
