// SPDX-License-Identifier: Apache-2.0
#include "nvme/doorbell.h"

#include "nvme/spec.h"

#include <atomic>

namespace lanepool::nvme {

namespace {
std::atomic_ref<uint32_t> word(std::byte* place) {
    return std::atomic_ref<uint32_t>(*reinterpret_cast<uint32_t*>(place));
}
uint32_t load(const std::byte* place) {
    return word(const_cast<std::byte*>(place)).load(std::memory_order_acquire);
}
static_assert(std::endian::native == std::endian::little, "doorbells are stored in the host's byte order");
} // namespace

Result<> Doorbell::ring(uint16_t value) {
    const uint16_t previous = std::exchange(last_, value);
    if (shadow_) {
        word(shadow_).store(value, std::memory_order_release);
        // The event index must not be read before the controller can see the new value, or both would wait
        // for the other.
        std::atomic_thread_fence(std::memory_order_seq_cst);
        if (!shadow_needs_notify(static_cast<uint16_t>(load(event_index_)), value, previous)) return {};
    }
    if (mapped_) {
        word(mapped_).store(value, std::memory_order_release);
        return {};
    }
    return pci::write32(*function_, pci::Region::bar0, offset_bytes_, value);
}

// The bytes that the doorbells of QUEUES take.
Result<uint64_t> Doorbells::check_room(uint64_t bar_bytes, unsigned stride, uint32_t queues) {
    const uint64_t size_bytes = 2 * uint64_t{queues} * (uint64_t{4} << stride);
    if (queues == 0 || bar_bytes < reg::doorbells || bar_bytes - reg::doorbells < size_bytes)
        return fail(Errc::out_of_range, "BAR0 of {} bytes has no room for the doorbells of {} queues",
                    bar_bytes, queues);
    return size_bytes;
}

Result<Doorbells> Doorbells::create(std::span<std::byte> bar0, unsigned stride, uint32_t queues) {
    Doorbells doorbells(nullptr, stride, queues);
    const uint64_t size_bytes = TRY(check_room(bar0.size(), stride, queues));
    doorbells.parts_.push_back({reg::doorbells, bar0.subspan(reg::doorbells, size_bytes)});
    return doorbells;
}

Result<Doorbells> Doorbells::create(pci::Function& function, unsigned stride, uint32_t queues) {
    Doorbells doorbells(&function, stride, queues);
    const uint64_t size_bytes =
        TRY(check_room(function.region(pci::Region::bar0).size_bytes, stride, queues));
    // Without memory behind them doorbells still work, by calls.
    auto extents = function.memory(pci::Region::bar0, reg::doorbells, size_bytes);
    if (!extents) {
        if (extents.error().code() == Errc::disconnected) return tl::unexpected(extents.error());
        return doorbells;
    }
    for (const auto& extent : *extents) {
        if (extent.offset_bytes % 4 != 0 || extent.memory.offset_bytes % 4 != 0) continue;
        if (auto mapping = Mapping::create(extent.memory)) {
            doorbells.parts_.push_back({extent.offset_bytes, mapping->bytes()});
            doorbells.mappings_.push_back(std::move(*mapping));
        }
    }
    return doorbells;
}

Doorbell Doorbells::at(uint64_t offset_bytes) const {
    for (const auto& part : parts_) {
        if (offset_bytes < part.offset_bytes) continue;
        const uint64_t inside = offset_bytes - part.offset_bytes;
        if (inside + sizeof(uint32_t) <= part.bytes.size())
            return {function_, offset_bytes, part.bytes.data() + inside};
    }
    return {function_, offset_bytes, nullptr};
}

Doorbell Doorbells::submission(uint16_t queue) const {
    return at(submission_doorbell_offset(queue, stride_));
}
Doorbell Doorbells::completion(uint16_t queue) const {
    return at(completion_doorbell_offset(queue, stride_));
}

} // namespace lanepool::nvme
