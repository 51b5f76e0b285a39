// SPDX-License-Identifier: Apache-2.0
#include "smartio/register_windows.h"

#include <algorithm>

namespace lanepool::smartio {

namespace {

constexpr uint64_t page_bytes = 4096;

// EXTENT from offset FROM up to TO.
pci::Extent part(const pci::Extent& extent, uint64_t from, uint64_t to) {
    return {from, {extent.memory.fd, extent.memory.offset_bytes + (from - extent.offset_bytes), to - from}};
}

uint64_t end_of(const pci::Extent& extent) { return extent.offset_bytes + extent.memory.size_bytes; }

} // namespace

std::vector<pci::Extent> clip_to_pages(const std::vector<pci::Extent>& extents,
                                       const std::vector<pci::Area>& areas) {
    std::vector<pci::Extent> clipped;
    for (const auto& area : areas)
        for (const auto& extent : extents) {
            uint64_t from = std::max(area.offset_bytes, extent.offset_bytes);
            uint64_t to = std::min(area.offset_bytes + area.size_bytes, end_of(extent));
            if (from > to || from > UINT64_MAX - page_bytes) continue;
            from = (from + page_bytes - 1) / page_bytes * page_bytes;
            to = to / page_bytes * page_bytes;
            if (from >= to) continue;
            const auto piece = part(extent, from, to);
            if (piece.memory.offset_bytes % page_bytes == 0) clipped.push_back(piece);
        }
    return clipped;
}

Result<std::shared_ptr<const RegisterWindows>>
RegisterWindows::open(ntb::Adapter& adapter, ntb::Partition lender, const Opened& opened) {
    std::vector<ntb::Target> targets;
    for (const auto& bar : opened.bars)
        if (bar.size_bytes != 0) targets.push_back({lender, bar.address, bar.size_bytes});
    const bool flushed = opened.flush_address != BusAddress{};
    if (flushed) targets.push_back({lender, opened.flush_address, flush_bytes});
    auto windows = TRY(adapter.open_windows(targets));
    if (windows.size() != targets.size())
        return fail(Errc::internal, "{} windows were opened to {} targets", windows.size(), targets.size());

    std::shared_ptr<RegisterWindows> result(new RegisterWindows);
    size_t next = 0;
    for (size_t i = 0; i < pci::bar_count; ++i) {
        const auto& bar = opened.bars[i];
        if (bar.size_bytes == 0) continue;
        auto& window = result->windows_[i];
        window = std::move(windows[next++]);
        auto extents = TRY(window.memory(0, bar.size_bytes));
        std::ranges::sort(extents, {}, &pci::Extent::offset_bytes);
        result->extents_[i] = clip_to_pages(extents, bar.mappable);
    }
    if (flushed) result->flush_ = std::move(windows[next]);
    return result;
}

const ntb::Window* RegisterWindows::window(pci::Region bar) const {
    const auto index = static_cast<size_t>(bar);
    return index < windows_.size() && windows_[index] ? &windows_[index] : nullptr;
}

const std::vector<pci::Extent>& RegisterWindows::extents(pci::Region bar) const {
    static const std::vector<pci::Extent> none;
    const auto index = static_cast<size_t>(bar);
    return index < extents_.size() ? extents_[index] : none;
}

Result<> RegisterWindows::read(pci::Region bar, uint64_t offset_bytes, std::span<std::byte> data) const {
    const auto* there = window(bar);
    if (!there) return fail(Errc::out_of_range, "the device has no region {}", static_cast<uint32_t>(bar));
    return there->read(offset_bytes, data);
}

Result<> RegisterWindows::write(pci::Region bar, uint64_t offset_bytes,
                                std::span<const std::byte> data) const {
    const auto* there = window(bar);
    if (!there) return fail(Errc::out_of_range, "the device has no region {}", static_cast<uint32_t>(bar));
    TRY(there->write(offset_bytes, data));
    std::array<std::byte, flush_bytes> ignored;
    return flush_ ? flush_.read(0, ignored) : Result<>{};
}

std::vector<pci::Area> RegisterWindows::mappable(pci::Region bar) const {
    std::vector<pci::Area> areas;
    for (const auto& extent : extents(bar))
        areas.push_back({extent.offset_bytes, extent.memory.size_bytes});
    return areas;
}

std::vector<pci::Extent> RegisterWindows::memory(pci::Region bar, uint64_t offset_bytes,
                                                 uint64_t size_bytes) const {
    std::vector<pci::Extent> within;
    for (const auto& extent : extents(bar)) {
        const uint64_t from = std::max(extent.offset_bytes, offset_bytes);
        const uint64_t to = std::min(end_of(extent), offset_bytes + size_bytes);
        if (from < to) within.push_back(part(extent, from, to));
    }
    return within;
}

MemoryRef RegisterWindows::card_memory(pci::Region bar) const {
    const auto* there = window(bar);
    return there ? there->card_memory().value_or(MemoryRef{}) : MemoryRef{};
}

} // namespace lanepool::smartio
