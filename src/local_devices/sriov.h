// SPDX-License-Identifier: Apache-2.0
//
// Single Root I/O Virtualization (PCI Express Base Specification 9): the virtual functions (VFs) of a
// physical function, the parent, which stays with its host. Calls block, and may be made from any thread.
#pragma once

#include "base/result.h"
#include "io/clock.h"
#include "local_devices/system.h"
#include "pci/types.h"

#include <vector>

namespace lanepool::local_devices {

struct SriovState {
    unsigned total = 0; // VFs that the parent could have; 0: it has no SR-IOV
    unsigned enabled = 0;
    std::vector<pci::Address> functions; // those that it has, by VF number
};

Result<SriovState> sriov(const Paths& paths, const pci::Address& parent);
Result<SriovState> sriov(System& system, const pci::Address& parent);

// Gives PARENT exactly COUNT VFs (0: none) and returns them by number. The host's drivers leave VFs alone as
// long as they exist: sriov_drivers_autoprobe is off, and on again with none. A change goes through none: VFs
// that exist are removed first. VFs of an NVMe drive get a share of
// its queues and interrupts each and are brought online. DEADLINE is a time of io::system_clock().
// Errors: not_supported (no SR-IOV, or the driver has no way), out_of_range (more than it could have), busy
// (a VF is in use: by whom), timeout, io. After an error there are no VFs, or those that there were.
Result<std::vector<pci::Address>> set_functions(const Paths& paths, const pci::Address& parent,
                                                unsigned count, io::TimePoint deadline);
Result<std::vector<pci::Address>> set_functions(System& system, const pci::Address& parent, unsigned count,
                                                io::TimePoint deadline);

// Takes from VF what its last borrower has left with the parent: of a NIC its MAC address, VLAN, rate limit,
// trust, spoof check and link state; of an NVMe drive the secondary controller's state, by taking it offline
// and online again. What is on a drive stays: that is for the sanitizing of the drive. To be called while
// nobody has VF open. A VF of another class has nothing with its parent that Linux could show: no error.
// Errors: invalid_argument (no VF), io.
Result<> clean_function(const Paths& paths, const pci::Address& vf);
Result<> clean_function(System& system, const pci::Address& vf);

} // namespace lanepool::local_devices
