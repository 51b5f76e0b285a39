// SPDX-License-Identifier: Apache-2.0
#include "vfio/regions.h"

#include "vfio/info.h"

#include <algorithm>
#include <limits>
#include <linux/vfio.h>

namespace lanepool::vfio {

namespace {

constexpr uint64_t max_offset = std::numeric_limits<int64_t>::max(); // of a descriptor

Result<std::vector<pci::Area>> parse_areas(std::span<const std::byte> capability, uint64_t region_bytes) {
    vfio_region_info_cap_sparse_mmap sparse;
    TRY(copy_part(capability, 0, sparse));
    std::vector<pci::Area> areas;
    size_t offset = sizeof sparse;
    for (uint32_t i = 0; i < sparse.nr_areas; ++i, offset += sizeof(vfio_region_sparse_mmap_area)) {
        const auto area = TRY(part_of<vfio_region_sparse_mmap_area>(capability, offset));
        if (area.size != 0) areas.push_back({area.offset, area.size});
    }
    std::sort(areas.begin(), areas.end(),
              [](const auto& a, const auto& b) { return a.offset_bytes < b.offset_bytes; });
    uint64_t end = 0;
    for (const auto& area : areas) {
        if (area.offset_bytes < end || area.offset_bytes > region_bytes ||
            area.size_bytes > region_bytes - area.offset_bytes)
            return fail(Errc::protocol, "{} mappable bytes at {:#x} overlap or lie outside of a region of {}",
                        area.size_bytes, area.offset_bytes, region_bytes);
        end = area.offset_bytes + area.size_bytes;
    }
    return areas;
}

} // namespace

Result<RegionPlace> parse_region(std::span<const std::byte> answer, uint32_t index) {
    const auto info = TRY(part_of<vfio_region_info>(answer));
    if (info.index != index)
        return fail(Errc::protocol, "asked for region {}, the answer is of {}", index, info.index);
    if (info.offset > max_offset || info.size > max_offset - info.offset)
        return fail(Errc::protocol, "region {} has {:#x} bytes at {:#x}", index, uint64_t{info.size},
                    uint64_t{info.offset});
    RegionPlace place;
    place.base_bytes = info.offset;
    place.info.size_bytes = info.size;
    place.info.readable = (info.flags & VFIO_REGION_INFO_FLAG_READ) != 0;
    place.info.writable = (info.flags & VFIO_REGION_INFO_FLAG_WRITE) != 0;
    if ((info.flags & VFIO_REGION_INFO_FLAG_MMAP) == 0 || info.size == 0) return place;
    std::span<const std::byte> sparse;
    if (info.flags & VFIO_REGION_INFO_FLAG_CAPS)
        sparse = TRY(find_capability(answer, info.cap_offset, VFIO_REGION_INFO_CAP_SPARSE_MMAP));
    // Without it all may be mapped, also an MSI-X table (VFIO_REGION_INFO_CAP_MSIX_MAPPABLE): what is
    // written there goes through the IOMMU's interrupt remapping.
    if (sparse.empty())
        place.info.mappable = {{0, info.size}};
    else
        place.info.mappable = TRY(parse_areas(sparse, info.size));
    return place;
}

std::vector<pci::Extent> RegionPlace::memory(const SharedFd& device, uint64_t offset_bytes,
                                             uint64_t size_bytes) const {
    std::vector<pci::Extent> extents;
    const uint64_t end = offset_bytes + size_bytes;
    for (const auto& area : info.mappable) {
        const uint64_t from = std::max(offset_bytes, area.offset_bytes);
        const uint64_t to = std::min(end, area.offset_bytes + area.size_bytes);
        if (from < to) extents.push_back({from, {device, base_bytes + from, to - from}});
    }
    return extents;
}

} // namespace lanepool::vfio
