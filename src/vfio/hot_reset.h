// SPDX-License-Identifier: Apache-2.0
//
// The reset of a whole bus or slot, for functions that cannot be reset alone (VFIO_DEVICE_PCI_HOT_RESET).
#pragma once

#include "pci/types.h"
#include "vfio/groups.h"
#include "vfio/kernel.h"

#include <cstddef>
#include <span>
#include <vector>

namespace lanepool::vfio {

struct AffectedFunction {
    uint32_t group;
    pci::Address address;
    bool operator==(const AffectedFunction&) const = default;
};

// Whom a hot reset of DEVICE would reset too, itself among them. Errors: not_supported.
Result<std::vector<AffectedFunction>> affected_by_hot_reset(Kernel& kernel, int device);
// From the answer to VFIO_DEVICE_GET_PCI_HOT_RESET_INFO. Errors: protocol.
Result<std::vector<AffectedFunction>> parse_affected(std::span<const std::byte> answer);

// The descriptors of all groups whose functions a hot reset for ADDRESS would reset. Errors: busy when one of
// those functions is somebody else's, or open here: it is named.
Result<std::vector<int>> groups_to_reset(const Groups& groups, const pci::Address& address,
                                         const std::vector<AffectedFunction>& affected);

Result<> hot_reset(Kernel& kernel, int device, const Groups& groups, const pci::Address& address);

} // namespace lanepool::vfio
