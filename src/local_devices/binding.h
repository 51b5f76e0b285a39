// SPDX-License-Identifier: Apache-2.0
//
// Moves the functions of one IOMMU group to vfio-pci and back. Only driver_override and drivers_probe are
// used: new_id would let vfio-pci grab every other function of the same kind, too.
//
// Every step looks first at what is there, so both ways can be gone again from wherever they stopped.
#pragma once

#include "base/result.h"
#include "local_devices/journal.h"
#include "local_devices/system.h"

#include <span>
#include <string>

namespace lanepool::local_devices {

inline constexpr std::string_view vfio_driver = "vfio-pci";

// As it is now, before it is taken.
Member remember(System& system, const pci::Address& function);

// Loads vfio-pci where it is not there. Errors: failed_precondition.
Result<> ensure_vfio_driver(System& system);

// Takes all of MEMBERS, first to last, from their drivers, and reserves them for vfio-pci; then binds it to
// them. Both stop at the first error, with some of them changed.
Result<> unbind_for_vfio(System& system, std::span<const Member> members);
Result<> bind_to_vfio(System& system, std::span<const Member> members);

// Brings all of MEMBERS back to what they were, last to first, each as far as that goes; the error of the
// first that is not. One that has vanished, or whose place another device has taken, is done.
Result<> bind_as_before(System& system, std::span<const Member> members);

} // namespace lanepool::local_devices
