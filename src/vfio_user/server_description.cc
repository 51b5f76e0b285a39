// SPDX-License-Identifier: Apache-2.0
#include "vfio_user/server_description.h"

#include "vfio_user/foreign_memory.h"

#include <algorithm>
#include <limits>

namespace lanepool::vfio_user {

namespace {

// More areas than this are not believed.
constexpr uint32_t max_areas = 4096;
// Of a vector count: PCI allows 2048 MSI-X vectors (PCI 3.0, 6.8.2).
constexpr uint32_t max_vectors = 2048;

Result<std::vector<pci::Area>> parse_areas(std::span<const std::byte> sparse) {
    const auto header = TRY(wire::take<wire::SparseMmap>(sparse));
    if (header.area_count > max_areas || header.area_count > sparse.size() / sizeof(wire::SparseArea))
        return fail(Errc::protocol, "{} mappable areas in {} bytes", uint32_t{header.area_count},
                    sparse.size());
    std::vector<pci::Area> areas;
    for (uint32_t i = 0; i < header.area_count; ++i) {
        const auto area = TRY(wire::take<wire::SparseArea>(sparse));
        if (area.size != 0) areas.push_back({area.offset, area.size});
    }
    return areas;
}

Result<> check_areas(std::vector<pci::Area>& areas, uint64_t region_bytes) {
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
    return {};
}

// The areas in the capability chain, none where the chain does not speak of them.
Result<std::optional<std::vector<pci::Area>>> find_areas(std::span<const std::byte> payload,
                                                         uint32_t offset) {
    uint32_t previous = 0;
    while (offset != 0) {
        // Forward only: so the chain ends.
        if (offset <= previous || offset < sizeof(wire::RegionInfo) || offset > payload.size())
            return fail(Errc::protocol, "a region's capability at {:#x}, after one at {:#x}", offset,
                        previous);
        const auto capability = payload.subspan(offset);
        auto rest = capability;
        const auto header = TRY(wire::take<wire::CapHeader>(rest));
        if (header.id == wire::cap_sparse_mmap) return TRY(parse_areas(capability));
        previous = offset;
        offset = header.next;
    }
    return std::nullopt;
}

} // namespace

Result<uint32_t> needed_bytes(const Message& reply) {
    std::span<const std::byte> payload = reply.payload;
    const auto info = TRY(wire::take<wire::RegionInfo>(payload));
    return info.argsz > reply.payload.size() ? uint32_t{info.argsz} : 0;
}

Result<RegionDescription> parse_region_info(Message reply, uint32_t index, bool lanepool) {
    const std::span<const std::byte> payload = reply.payload;
    auto rest = payload;
    const auto info = TRY(wire::take<wire::RegionInfo>(rest));
    if (info.index != index)
        return fail(Errc::protocol, "asked for region {}, the answer is of {}", index, uint32_t{info.index});
    RegionDescription description;
    description.info.size_bytes = info.size;
    description.info.readable = (info.flags & wire::region::read) != 0;
    description.info.writable = (info.flags & wire::region::write) != 0;
    if (info.size > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
        return fail(Errc::protocol, "region {} has {:#x} bytes", index, uint64_t{info.size});
    if ((info.flags & wire::region::mmap) == 0 || info.size == 0) return description;
    if (!lanepool) {
        if (reply.fds.size() != 1) return description; // nothing to map; it is reached by messages
        description.fd = share(std::move(reply.fds.front()));
        description.base_bytes = info.offset;
    }
    auto& mappable = description.info.mappable;
    mappable = {{0, info.size}};
    if (info.flags & wire::region::caps)
        if (auto areas = TRY(find_areas(payload, info.cap_offset))) mappable = std::move(*areas);
    TRY(check_areas(mappable, info.size));
    return description;
}

std::vector<pci::Extent> RegionDescription::memory(uint64_t offset_bytes, uint64_t size_bytes) const {
    std::vector<pci::Extent> extents;
    if (!fd) return extents;
    const uint64_t end = offset_bytes + size_bytes;
    for (const auto& area : info.mappable) {
        const uint64_t from = std::max(offset_bytes, area.offset_bytes);
        const uint64_t to = std::min(end, area.offset_bytes + area.size_bytes);
        if (from >= to) continue;
        // What does not lie in the file is no memory, whatever the server says.
        if (auto memory = foreign_memory(fd, base_bytes + from, to - from))
            extents.push_back({from, std::move(*memory)});
    }
    return extents;
}

Result<pci::IrqInfo> parse_irq_info(const Message& reply, uint32_t index) {
    std::span<const std::byte> payload = reply.payload;
    const auto info = TRY(wire::take<wire::IrqInfo>(payload));
    if (info.index != index || info.count > max_vectors)
        return fail(Errc::protocol, "asked for interrupt index {}, the answer is {} vectors of {}", index,
                    uint32_t{info.count}, uint32_t{info.index});
    if ((info.flags & wire::irq::eventfd) == 0) return pci::IrqInfo{}; // we take interrupts no other way
    return pci::IrqInfo{info.count, (info.flags & wire::irq::maskable) != 0,
                        (info.flags & wire::irq::automasked) != 0};
}

Result<MemoryPart> parse_region_memory(Message reply, const wire::RegionMemory& request) {
    std::span<const std::byte> payload = reply.payload;
    const auto info = TRY(wire::take<wire::RegionMemory>(payload));
    const uint64_t end = request.offset + request.size;
    if (info.index != request.index || info.offset != request.offset || info.next <= request.offset ||
        info.next > end || info.count > payload.size() / sizeof(wire::MemoryExtent))
        return fail(Errc::protocol, "asked for the memory at {:#x} of region {}, the answer is of {:#x}",
                    uint64_t{request.offset}, uint32_t{request.index}, uint64_t{info.offset});
    std::vector<SharedFd> fds;
    for (auto& fd : reply.fds)
        fds.push_back(share(std::move(fd)));
    MemoryPart part{{}, info.next};
    uint64_t position = request.offset;
    for (uint32_t i = 0; i < info.count; ++i) {
        const auto extent = TRY(wire::take<wire::MemoryExtent>(payload));
        if (extent.offset < position || extent.offset > info.next ||
            extent.size > info.next - extent.offset || extent.fd_index >= fds.size())
            return fail(Errc::protocol, "{} bytes of memory at {:#x} of a region are not what was asked for",
                        uint64_t{extent.size}, uint64_t{extent.offset});
        part.extents.push_back(
            {extent.offset, TRY(foreign_memory(fds[extent.fd_index], extent.fd_offset, extent.size))});
        position = extent.offset + extent.size;
    }
    return part;
}

Result<UniqueFd> find_event(Message reply, uint32_t index, uint64_t offset_bytes) {
    std::span<const std::byte> payload = reply.payload;
    const auto info = TRY(wire::take<wire::RegionIoFds>(payload));
    if (info.index != index || info.count > payload.size() / sizeof(wire::IoEventFd))
        return fail(Errc::protocol, "{} sub-regions in {} bytes", uint32_t{info.count}, payload.size());
    for (uint32_t i = 0; i < info.count; ++i) {
        const auto event = TRY(wire::take<wire::IoEventFd>(payload));
        if (event.type != wire::io_fd_type_ioeventfd || event.flags != 0 || event.offset != offset_bytes ||
            (event.size != 0 && event.size != 4) || event.fd_index >= reply.fds.size())
            continue;
        return std::move(reply.fds[event.fd_index]);
    }
    return fail(Errc::not_supported, "there is no eventfd behind offset {:#x}", offset_bytes);
}

} // namespace lanepool::vfio_user
