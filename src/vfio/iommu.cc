// SPDX-License-Identifier: Apache-2.0
#include "vfio/iommu.h"

#include "vfio/info.h"

#include <algorithm>
#include <linux/vfio.h>

namespace lanepool::vfio {

namespace {

Result<std::vector<Range<Iova>>> parse_ranges(std::span<const std::byte> capability) {
    vfio_iommu_type1_info_cap_iova_range header;
    TRY(copy_part(capability, 0, header));
    std::vector<Range<Iova>> ranges;
    size_t offset = sizeof header;
    for (uint32_t i = 0; i < header.nr_iovas; ++i, offset += sizeof(vfio_iova_range)) {
        const auto range = TRY(part_of<vfio_iova_range>(capability, offset));
        // The end is inclusive. All 64 bits of addresses would be a range of 2^64 bytes.
        if (range.end < range.start || range.end - range.start == UINT64_MAX)
            return fail(Errc::protocol, "the IOMMU has addresses from {:#x} to {:#x}", uint64_t{range.start},
                        uint64_t{range.end});
        ranges.push_back(TRY(Range<Iova>::create({range.start}, range.end - range.start + 1)));
    }
    return ranges;
}

std::string list(const std::vector<Range<Iova>>& ranges) {
    std::string text;
    for (const auto& range : ranges)
        text +=
            fmt::format("{}{:#x}-{:#x}", text.empty() ? "" : ", ", range.start().value, range.last().value);
    return text;
}

} // namespace

Result<Iommu> parse_iommu(std::span<const std::byte> answer) {
    const auto info = TRY(part_of<vfio_iommu_type1_info>(answer));
    Iommu iommu;
    if (info.flags & VFIO_IOMMU_INFO_PGSIZES) {
        if (info.iova_pgsizes == 0) return fail(Errc::protocol, "the IOMMU has pages of no size");
        iommu.page_bytes = info.iova_pgsizes & -info.iova_pgsizes;
    }
    if ((info.flags & VFIO_IOMMU_INFO_CAPS) == 0) return iommu;
    const auto ranges = TRY(find_capability(answer, info.cap_offset, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE));
    if (!ranges.empty()) iommu.ranges = TRY(parse_ranges(ranges));
    const auto available = TRY(find_capability(answer, info.cap_offset, VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL));
    if (!available.empty()) iommu.mappings = TRY(part_of<vfio_iommu_type1_info_dma_avail>(available)).avail;
    return iommu;
}

Result<> Iommu::check(Range<Iova> range) const {
    if (range.start().value % page_bytes != 0 || range.size_bytes() % page_bytes != 0)
        return fail(Errc::invalid_argument, "{} bytes at {:#x} are not whole pages of the IOMMU, of {} bytes",
                    range.size_bytes(), range.start().value, page_bytes);
    if (ranges.empty() ||
        std::any_of(ranges.begin(), ranges.end(), [&](const auto& there) { return there.contains(range); }))
        return {};
    return fail(Errc::out_of_range, "the IOMMU has no addresses {:#x}-{:#x} for the function; it has {}",
                range.start().value, range.last().value, list(ranges));
}

} // namespace lanepool::vfio
