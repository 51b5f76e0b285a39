// SPDX-License-Identifier: Apache-2.0
#include "smartio/msix_pages.h"

#include "smartio/msix_capability.h"

#include <algorithm>

namespace lanepool::smartio {

namespace {

constexpr uint64_t page_bytes = 4096;

struct Pages {
    uint64_t from;
    uint64_t to;
};

Pages pages_of(uint64_t offset_bytes, uint64_t size_bytes) {
    const uint64_t end = offset_bytes + size_bytes;
    return {offset_bytes / page_bytes * page_bytes, (end + page_bytes - 1) / page_bytes * page_bytes};
}

} // namespace

Result<std::vector<pci::Area>> without_msix_pages(std::span<const std::byte> config, unsigned bar,
                                                  uint64_t bar_bytes) {
    std::vector<Pages> left_out;
    if (const auto msix = TRY(find_msix(config)))
        for (const auto* part : {&msix->table, &msix->pending})
            if (part->bar == bar) left_out.push_back(pages_of(part->offset_bytes, part->size_bytes));
    std::ranges::sort(left_out, {}, &Pages::from);
    std::vector<pci::Area> areas;
    uint64_t position = 0;
    for (const auto& pages : left_out) {
        const uint64_t from = std::min(pages.from, bar_bytes);
        if (from > position) areas.push_back({position, from - position});
        position = std::max(position, std::min(pages.to, bar_bytes));
    }
    if (position < bar_bytes) areas.push_back({position, bar_bytes - position});
    return areas;
}

} // namespace lanepool::smartio
