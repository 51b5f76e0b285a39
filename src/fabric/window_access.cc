// SPDX-License-Identifier: Apache-2.0
#include "fabric/window_access.h"

#include "fabric/port.h"
#include "fabric/switch.h"

#include <algorithm>

namespace lanepool::fabric {
namespace {

// Where x86 hosts receive message-signalled interrupts. It is no memory, so clients do not map it, but writes
// there reach the interrupt controller (Intel SDM volume 3, 11.11).
bool is_msi_address(Iova address) { return address.value >> 20 == 0xfee; }

// A guest with an IOMMU maps page by page: this many are 256 MiB of scattered pages.
constexpr size_t max_extents = 65536;

bool continues(const pci::Extent& extent, uint64_t offset_bytes, const DmaMapping& mapping) {
    return extent.offset_bytes + extent.memory.size_bytes == offset_bytes &&
           extent.memory.fd == mapping.memory->fd() &&
           extent.memory.offset_bytes + extent.memory.size_bytes == mapping.memory_offset_bytes;
}

} // namespace

bool WindowAccess::read_in_place(const Segment& segment, std::span<std::byte> data) {
    auto& counters = source_.counters();
    if (segment.obstacle) {
        counters.drop(*segment.obstacle);
        return true;
    }
    if (segment.event()) {
        std::ranges::fill(data, std::byte{0});
        return true;
    }
    if (!segment.memory()) return false;
    const auto& mapping = *segment.mapping;
    if (!mapping.memory->read(mapping.memory_offset_bytes, data)) {
        counters.drop(Obstacle::failed);
        std::ranges::fill(data, std::byte{0xff});
    }
    return true;
}

void WindowAccess::read(unsigned slot, uint64_t offset_bytes, size_t size_bytes,
                        vfio_user::Reply<std::vector<std::byte>> reply) {
    std::vector<std::byte> data(size_bytes, std::byte{0xff});
    std::vector<Segment> elsewhere;
    for (auto& segment : translate(fabric_, source_, slot, offset_bytes, size_bytes))
        if (!read_in_place(segment, std::span(data).subspan(segment.offset_bytes, segment.size_bytes)))
            elsewhere.push_back(std::move(segment));
    if (elsewhere.empty()) return reply(std::move(data));
    if (waiting_.size() >= max_waiting_reads) {
        source_.counters().drop(Obstacle::too_many);
        return reply(std::move(data));
    }
    forward_reads(std::move(elsewhere), std::move(data), std::move(reply));
}

void WindowAccess::forward_reads(std::vector<Segment> segments, std::vector<std::byte> data,
                                 vfio_user::Reply<std::vector<std::byte>> reply) {
    const uint64_t id = next_id_++;
    const auto waiting = std::make_shared<Waiting>(std::move(reply));
    waiting->data = std::move(data);
    waiting->missing = segments.size();
    waiting->deadline = fabric_.loop().after(fabric_.options().peer_read_timeout, [this, id] {
        source_.counters().drop(Obstacle::failed);
        finish(id);
    });
    waiting_.emplace(id, waiting);
    for (const auto& segment : segments)
        forward_read(id, waiting, segment);
}

void WindowAccess::forward_read(uint64_t id, const std::shared_ptr<Waiting>& waiting,
                                const Segment& segment) {
    auto* requests = fabric_.port(segment.partition).requests();
    if (!requests) { // it went while an earlier piece was sent
        source_.counters().drop(Obstacle::failed);
        return answered(id);
    }
    // Holds the read weakly: once it is answered or dropped, a late answer has no effect, nor has one that
    // comes when the switch is gone.
    const std::weak_ptr<Waiting> weak = waiting;
    auto answer = [this, id, weak, offset = segment.offset_bytes,
                   size = segment.size_bytes](Result<std::vector<std::byte>> bytes) {
        const auto read = weak.lock();
        if (!read || !waiting_.contains(id)) return;
        if (bytes && bytes->size() == size)
            std::ranges::copy(*bytes, read->data.begin() + static_cast<ptrdiff_t>(offset));
        else
            source_.counters().drop(Obstacle::failed);
        answered(id);
    };
    const auto wanted = [weak] { return !weak.expired(); };
    if (requests->read(source_.partition(), segment.address, segment.size_bytes, wanted, std::move(answer))) {
        ++source_.counters().forwarded_reads;
        return;
    }
    source_.counters().drop(Obstacle::too_many);
    answered(id);
}

void WindowAccess::answered(uint64_t id) {
    const auto found = waiting_.find(id);
    if (found != waiting_.end() && --found->second->missing == 0) finish(id);
}

void WindowAccess::finish(uint64_t id) {
    const auto found = waiting_.find(id);
    if (found == waiting_.end()) return;
    const auto waiting = std::move(found->second);
    waiting_.erase(found);
    waiting->reply(std::move(waiting->data));
}

void WindowAccess::write(unsigned slot, uint64_t offset_bytes, std::span<const std::byte> data) {
    for (const auto& segment : translate(fabric_, source_, slot, offset_bytes, data.size()))
        write_segment(segment, data.subspan(segment.offset_bytes, segment.size_bytes));
}

void WindowAccess::write_segment(const Segment& segment, std::span<const std::byte> data) {
    auto& counters = source_.counters();
    if (segment.obstacle == Obstacle::not_mapped && is_msi_address(segment.address) && data.size() == 4)
        return forward_write(segment, data);
    if (segment.obstacle) return counters.drop(*segment.obstacle);
    if (!segment.mapping) return forward_write(segment, data);
    const auto& mapping = *segment.mapping;
    if (mapping.access == Access::read_only) return counters.drop(Obstacle::read_only);
    if (mapping.event) {
        if (data.size() < 4) return;
        ++counters.window_events;
        return signal(*mapping.event);
    }
    if (!mapping.memory) return forward_write(segment, data);
    if (!mapping.memory->write(mapping.memory_offset_bytes, data)) counters.drop(Obstacle::failed);
}

void WindowAccess::forward_write(const Segment& segment, std::span<const std::byte> data) {
    auto* requests = fabric_.port(segment.partition).requests();
    auto& counters = source_.counters();
    // It may have gone while an earlier piece was sent.
    if (!requests) return counters.drop(Obstacle::failed);
    if (!requests->write(source_.partition(), segment.address, data))
        return counters.drop(Obstacle::too_many);
    ++counters.forwarded_writes;
}

Result<std::vector<pci::Extent>> WindowAccess::memory(unsigned slot, uint64_t offset_bytes,
                                                      uint64_t size_bytes) {
    std::vector<pci::Extent> extents;
    for (const auto& segment : translate(fabric_, source_, slot, offset_bytes, size_bytes)) {
        if (!segment.memory() || fabric_.port(segment.partition).whole_machine()) continue;
        const uint64_t at = offset_bytes + segment.offset_bytes;
        if (!extents.empty() && continues(extents.back(), at, *segment.mapping)) {
            extents.back().memory.size_bytes += segment.size_bytes;
            continue;
        }
        if (extents.size() >= max_extents)
            return fail(Errc::no_space,
                        "behind {} bytes at offset {:#x} of the window BAR lie more than {} pieces of "
                        "memory: ask for a smaller range",
                        size_bytes, offset_bytes, max_extents);
        extents.push_back(
            {at, {segment.mapping->memory->fd(), segment.mapping->memory_offset_bytes, segment.size_bytes}});
    }
    source_.counters().window_lookups += extents.size();
    return extents;
}

Result<UniqueFd> WindowAccess::event(unsigned slot, uint64_t offset_bytes) {
    const auto segments = translate(fabric_, source_, slot, offset_bytes, 4);
    const Segment& segment = segments.front();
    if (segments.size() != 1 || !segment.event())
        return fail(Errc::not_supported, "offset {:#x} of the window BAR does not lead to an event{}{}",
                    offset_bytes, segment.obstacle ? ": " : "",
                    segment.obstacle ? obstacle_names[static_cast<size_t>(*segment.obstacle)] : "");
    ++source_.counters().window_lookups;
    return segment.event()->duplicate();
}

} // namespace lanepool::fabric
