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

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lanepool::local_devices {

// As the kernel would try them; empty: it knows no way.
Result<std::vector<std::string>> reset_methods(System& system, const pci::Address& function);

// Of those the ones that reach no other function, the best first.
Result<std::vector<std::string>> usable_reset_methods(System& system, const pci::Address& function);

// Resets FUNCTION, which nobody uses, by each usable method until one works; leaves that one alone in
// reset_method and returns it. Works: the kernel says so, and afterwards the function's header is as before
// and its registers answer. (The registers are looked at where the function has no driver: otherwise it may
// be asleep.) Where none works, but all that is on the function's bus is among TAKEN, returns hot_reset and
// leaves reset_method as it was: VFIO resets the whole bus then. Errors: failed_precondition: nothing works,
// and why each does not.
Result<std::string> choose_reset_method(System& system, const pci::Address& function,
                                        std::span<const pci::Address> taken);
inline constexpr std::string_view hot_reset = "hot reset";

// Writes LIST into reset_method, as it once stood there. The kernel refuses a list with a method that has
// become stale since; then it is asked to make the list anew.
Result<> restore_reset_methods(System& system, const pci::Address& function, const std::string& list);

} // namespace lanepool::local_devices
