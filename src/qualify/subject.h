// SPDX-License-Identifier: Apache-2.0
//
// What is judged, and the checks, grouped by what they are about. Each gives one Check.
#pragma once

#include "inventory/machine.h"
#include "inventory/paths.h"
#include "qualify/report.h"
#include "qualify/support_matrix.h"

namespace lanepool::qualify {

struct Subject {
    const inventory::Machine& machine;
    const inventory::Function& function;
    const SupportMatrix& matrix;
    AccessModel model;
    // The adapter of this machine that the function reaches best; null: it has none.
    const inventory::NtbAdapter* adapter = nullptr;
    inventory::PeerRoute route; // to it
};

// Of the function itself.
Check check_function(const Subject& subject);
Check check_configuration(const Subject& subject);
Check check_sriov(const Subject& subject);
Check check_driver(const Subject& subject);
Check check_reset(const Subject& subject);
Check check_interrupts(const Subject& subject);
Check check_bars(const Subject& subject);
Check check_dma_width(const Subject& subject);
Check check_link(const Subject& subject);
Check check_errors(const Subject& subject);
// Of its host.
Check check_vfio(const Subject& subject);
Check check_iommu(const Subject& subject);
Check check_interrupt_remapping(const Subject& subject);
Check check_iommu_group(const Subject& subject);
Check check_acs(const Subject& subject);
// Of the way to the adapter.
Check check_peer_to_peer(const Subject& subject);
Check check_windows(const Subject& subject);
// Of the support matrix.
Check check_device_entry(const Subject& subject);
Check check_kernel_entry(const Subject& subject);
Check check_platform_entry(const Subject& subject);

} // namespace lanepool::qualify
