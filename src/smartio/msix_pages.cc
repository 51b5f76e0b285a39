// SPDX-License-Identifier: Apache-2.0
#include "smartio/msix_pages.h"

#include "pci/config_space.h"

#include <algorithm>
#include <array>

namespace lanepool::smartio {

namespace {

constexpr uint64_t page_bytes = 4096;

namespace msix { // PCI Express Base Specification 7.7.2
constexpr size_t control = 2;
constexpr uint16_t last_vector = 0x7ff;
constexpr size_t table = 4;
constexpr size_t pending = 8;
constexpr uint32_t bar_mask = 7; // of both; the rest is the offset
constexpr size_t length = 12;
constexpr uint64_t table_entry_bytes = 16;
} // namespace msix

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
    for (const auto& entry : TRY(pci::capabilities(config))) {
        if (static_cast<pci::Capability>(entry.id) != pci::Capability::msix) continue;
        if (entry.offset + msix::length > pci::conventional_config_bytes)
            return fail(Errc::protocol, "the MSI-X capability at {:#x} does not fit into config space",
                        entry.offset);
        const uint64_t vectors =
            (pci::get16(config, entry.offset + msix::control) & msix::last_vector) + uint64_t{1};
        const std::array<std::pair<size_t, uint64_t>, 2> structures = {
            {{msix::table, vectors * msix::table_entry_bytes}, {msix::pending, (vectors + 63) / 64 * 8}}};
        for (const auto& [field, size_bytes] : structures) {
            const uint32_t place = pci::get32(config, entry.offset + field);
            if ((place & msix::bar_mask) == bar)
                left_out.push_back(pages_of(place & ~msix::bar_mask, size_bytes));
        }
    }
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
