// SPDX-License-Identifier: Apache-2.0
//
// Which capabilities of a lent device its borrower sees.
#pragma once

#include "base/result.h"

#include <cstddef>
#include <span>
#include <vector>

namespace lanepool::smartio {

// Offsets in config space; 0: the function has none.
struct KeptCapabilities {
    size_t power_management = 0;
    size_t msi = 0;
    size_t msix = 0;
    size_t pci_express = 0;
};

// Which of the capabilities for interrupts by message is kept.
enum class KeptMessages { none, msi, msix };

// Copies the kept capabilities of the device's config space FROM to the same places in TO, which has the same
// size and is zero beyond the header, and links them. What is not kept leaves no byte. Vendor-specific ones
// are kept where they are sound: virtio's driver finds its registers by them. But not virtio's other way to
// registers, which is one through config space. Errors: protocol for chains that are broken or overlap.
Result<KeptCapabilities> copy_kept_capabilities(std::span<const std::byte> from, std::span<std::byte> to,
                                                KeptMessages messages);

} // namespace lanepool::smartio
