// SPDX-License-Identifier: Apache-2.0
#include "dma_model/engine.h"

#include "device_model/bar_memory.h"
#include "dma_model/crc32c.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace lanepool::dma_model {

EngineError Engine::start(Iova ring, uint32_t entries) {
    stop();
    if (!std::has_single_bit(entries) || entries < 2 || entries > 1u << max_ring_log2)
        return EngineError::ring_size;
    if (ring.value % sizeof(Descriptor) != 0) return EngineError::ring_alignment;
    // In one piece, as on a device that knows its physical address.
    if (!memory_.direct(ring, entries * sizeof(Descriptor), true)) return EngineError::ring_unreachable;
    ring_ = Ring{ring, entries};
    ring_memory_ = {};
    job_.reset();
    head_ = 0;
    return EngineError::none;
}

bool Engine::step(uint32_t tail, EngineError& error) {
    if (!ring_ || head_ == tail) return false;
    if (tail >= ring_->entries) {
        error = EngineError::tail_range;
        stop();
        return true;
    }
    if (!job_) {
        if (const auto* from = entry()) {
            job_.emplace();
            std::memcpy(&job_->descriptor, from, sizeof(Descriptor));
        }
    }
    if (job_) {
        auto outcome = job_->done_bytes == 0 ? check(job_->descriptor) : Outcome::pending;
        if (outcome == Outcome::pending) outcome = work(*job_);
        if (outcome == Outcome::pending) return true;
        if (finish(*job_, outcome)) {
            job_.reset();
            return true;
        }
    }
    error = EngineError::ring_unreachable;
    stop();
    return true;
}

Outcome Engine::check(const Descriptor& descriptor) {
    if (descriptor.flags & ~flags::all) return Outcome::invalid_flags;
    if (descriptor.opcode >= opcode_count) return Outcome::invalid_opcode;
    const auto opcode = static_cast<Opcode>(uint16_t{descriptor.opcode});
    if (opcode == Opcode::nop) return Outcome::done;
    const uint32_t length = descriptor.length;
    if (length == 0 || length > max_length_bytes) return Outcome::invalid_length;
    // No range may run past the end of the address space.
    for (const uint64_t address : {uint64_t{descriptor.source}, uint64_t{descriptor.destination},
                                   opcode == Opcode::add ? uint64_t{descriptor.operand} : 0})
        if (address > UINT64_MAX - length) return Outcome::invalid_length;
    if (opcode == Opcode::add) {
        if (length % 4 != 0) return Outcome::invalid_length;
        if ((descriptor.source | descriptor.destination | descriptor.operand) % 4 != 0)
            return Outcome::invalid_alignment;
    }
    if (opcode == Opcode::crc32c && descriptor.destination % 4 != 0) return Outcome::invalid_alignment;
    return Outcome::pending;
}

Engine::Part Engine::part(uint64_t address, uint32_t done_bytes, uint32_t most_bytes, bool write) const {
    const Iova at{address + done_bytes};
    const auto* region = memory_.find(at);
    if (!region) return {};
    const auto size =
        static_cast<uint32_t>(std::min<uint64_t>(most_bytes, (*region)->range().last() - at + 1));
    auto* data = memory_.direct(at, size, write); // null where there is no memory, or it may not be written
    return {data, data ? size : 0};
}

Outcome Engine::work(Job& job) {
    const uint32_t length = job.descriptor.length;
    for (uint32_t budget = step_bytes; budget > 0 && job.done_bytes < length;) {
        uint32_t size = 0;
        const auto outcome = work_piece(job, std::min(budget, length - job.done_bytes), size);
        if (outcome != Outcome::pending) return outcome;
        job.done_bytes += size;
        stats_.bytes += size;
        budget -= size;
    }
    if (job.done_bytes < length) return Outcome::pending;
    return static_cast<Opcode>(uint16_t{job.descriptor.opcode}) == Opcode::crc32c ? finish_crc(job)
                                                                                  : Outcome::done;
}

// As much as lies in one piece of memory each.
Outcome Engine::work_piece(Job& job, uint32_t most, uint32_t& size) {
    const auto& d = job.descriptor;
    const auto opcode = static_cast<Opcode>(uint16_t{d.opcode});
    Part from, second, to;
    size = most;
    if (opcode != Opcode::fill) {
        from = part(d.source, job.done_bytes, size, false);
        if (!from.data) return Outcome::source_unreachable;
        size = from.size_bytes;
    }
    if (opcode == Opcode::add) {
        second = part(d.operand, job.done_bytes, size, false);
        if (!second.data) return Outcome::operand_unreachable;
        size = second.size_bytes;
    }
    if (opcode != Opcode::crc32c) {
        to = part(d.destination, job.done_bytes, size, true);
        if (!to.data) return Outcome::destination_unreachable;
        size = to.size_bytes;
    }
    switch (opcode) {
    case Opcode::copy:
        std::memmove(to.data, from.data, size);
        break;
    case Opcode::fill: {
        // The pattern goes on where the last piece has ended.
        const uint64_t pattern = std::rotr(uint64_t{d.operand}, static_cast<int>(8 * (job.done_bytes % 8)));
        for (uint32_t i = 0; i < size; i += 8)
            std::memcpy(to.data + i, &pattern, std::min(size - i, 8u));
        break;
    }
    case Opcode::crc32c:
        job.crc = crc32c(job.crc, {from.data, size});
        break;
    case Opcode::add:
        // Mappings begin and end where they like; a vector's element that lies in two of them is not reached.
        size &= ~3u;
        if (size == 0) return Outcome::destination_unreachable;
        for (uint32_t i = 0; i < size; i += 4) {
            uint32_t a, b;
            std::memcpy(&a, from.data + i, 4);
            std::memcpy(&b, second.data + i, 4);
            a += b;
            std::memcpy(to.data + i, &a, 4);
        }
        break;
    case Opcode::nop:
        break;
    }
    return Outcome::pending;
}

Outcome Engine::finish_crc(const Job& job) {
    const auto to = part(job.descriptor.destination, 0, 4, true);
    if (to.size_bytes < 4) return Outcome::destination_unreachable;
    std::memcpy(to.data, &job.crc, 4);
    return Outcome::done;
}

// Tells the client. False: the ring is not there any more.
bool Engine::finish(const Job& job, Outcome outcome) {
    ++stats_.descriptors;
    if (outcome != Outcome::done) ++stats_.failed;
    auto* to = entry();
    if (!to) return false;
    device_model::store_word(to + offsetof(Descriptor, result), outcome == Outcome::done ? job.crc : 0);
    device_model::store_word(to + offsetof(Descriptor, outcome), static_cast<uint32_t>(outcome));
    head_ = (head_ + 1) % ring_->entries;
    done_((job.descriptor.flags & flags::signal) != 0);
    return true;
}

// The head's place in the ring; null when it has gone.
std::byte* Engine::entry() {
    const Iova address = ring_->base + uint64_t{head_} * sizeof(Descriptor);
    auto* place = ring_memory_.get(memory_, address, sizeof(Descriptor), true);
    // A client may map memory at any offset; words are written whole.
    return reinterpret_cast<uintptr_t>(place) % alignof(uint32_t) == 0 ? place : nullptr;
}

} // namespace lanepool::dma_model
