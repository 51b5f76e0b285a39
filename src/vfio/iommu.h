// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/address.h"
#include "base/result.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace lanepool::vfio {

// What the IOMMU behind a container can map.
struct Iommu {
    uint64_t page_bytes = 4096;       // addresses and sizes are multiples of it
    std::vector<Range<Iova>> ranges;  // all there is; empty: the kernel does not say
    std::optional<uint32_t> mappings; // how many more there may be

    // Errors: invalid_argument for what is not whole pages, out_of_range naming what there is.
    Result<> check(Range<Iova> range) const;
};

// From the answer to VFIO_IOMMU_GET_INFO. Errors: protocol.
Result<Iommu> parse_iommu(std::span<const std::byte> answer);

} // namespace lanepool::vfio
