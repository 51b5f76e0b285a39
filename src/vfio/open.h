// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"
#include "pci/function.h"
#include "pci/types.h"

#include <filesystem>
#include <memory>

namespace lanepool::vfio {

// Where a machine shows its devices; other folders for tests.
struct Paths {
    std::filesystem::path sys = "/sys";
    std::filesystem::path dev = "/dev";
};

// pci::Function over the kernel's VFIO: a function of this machine that vfio-pci has. It is this process's
// alone until the object goes. Thread-safe, with one thread of its own for on_disconnect.
//
// The kernel resets the function when it is opened and when it is closed, turns memory space on at opening,
// and bus mastering off at both. What is mapped for it, and what it does with it, goes through the machine's
// IOMMU: one address space for an IOMMU group, so functions of one group that are open together see each
// other's mappings.
//
// - memory() gives ranges of the VFIO device's descriptor. Their pages are gone (SIGBUS) while memory space
//   is off in the command register or the function sleeps (D3); they stay the same over a reset.
// - map_dma() takes memory of any descriptor, also what memory() of another function gave. Addresses and
//   sizes are multiples of the IOMMU's page (4 KiB). The memory is mapped in this process until it is
//   unmapped. What can only be had as calls or as an eventfd is not_supported: the IOMMU maps memory only.
// - The function signals by one of INTx, MSI and MSI-X at a time: setting up one turns the others off.
//   Where more vectors are set up than were before, the kernel has to turn the index off in between; each
//   vector in use is then signalled once, for what fell into the gap would be lost. INTx masks itself;
//   MSI and MSI-X cannot be masked.
// - reset() is the kernel's best method, or that of the whole bus or slot where there is none for the
//   function alone and every function on it is in this group and not open. It leaves bus mastering and
//   interrupts off, and memory space and mappings as they were.
// - on_disconnect is called when the kernel asks for the function back (it is being unplugged or unbound),
//   and when it reports a fatal error of it. The kernel waits until the function has been closed; until then
//   it works as before, but is not reset any more (disconnected).
//
// Errors: failed_precondition when vfio-pci does not have the function, or not the whole IOMMU group, saying
// who has it; not_found; busy when somebody else has the group open; permission_denied; not_supported where
// the kernel has no type1 container.
Result<std::unique_ptr<pci::Function>> open(const pci::Address& address, const Paths& paths = {});

} // namespace lanepool::vfio
