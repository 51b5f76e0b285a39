// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"
#include "pci/function.h"
#include "pci/types.h"

#include <cstddef>
#include <span>
#include <vector>

namespace lanepool::vfio {

// A region, and where it lies in the device's descriptor.
struct RegionPlace {
    pci::RegionInfo info;
    uint64_t base_bytes = 0;

    // What of SIZE bytes at OFFSET is memory of DEVICE, the device's descriptor.
    std::vector<pci::Extent> memory(const SharedFd& device, uint64_t offset_bytes, uint64_t size_bytes) const;
};

// From the answer to VFIO_DEVICE_GET_REGION_INFO. Errors: protocol.
Result<RegionPlace> parse_region(std::span<const std::byte> answer, uint32_t index);

} // namespace lanepool::vfio
