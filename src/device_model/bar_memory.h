// SPDX-License-Identifier: Apache-2.0
//
// The part of a BAR that clients map: memory that both sides read and write at the same time. What a client
// writes there is a value like any other of a client's: to be copied once and then checked.
#pragma once

#include "base/mapping.h"
#include "base/result.h"
#include "pci/function.h"

#include <atomic>
#include <cstdint>
#include <vector>

namespace lanepool::device_model {

static_assert(std::endian::native == std::endian::little, "registers are little-endian words in memory");

// One aligned 32-bit word of memory that somebody else writes at the same time.
inline uint32_t load_word(const std::byte* address) {
    return std::atomic_ref(*reinterpret_cast<uint32_t*>(const_cast<std::byte*>(address)))
        .load(std::memory_order_acquire);
}
inline void store_word(std::byte* address, uint32_t value) {
    std::atomic_ref(*reinterpret_cast<uint32_t*>(address)).store(value, std::memory_order_release);
}

class BarMemory {
  public:
    // AREA is whole pages of the BAR. NAME shows in /proc/PID/maps. Errors: those of creating memory.
    static Result<BarMemory> create(const char* name, pci::Area area);

    // Other memory, of zeroes: who has mapped the old one writes to nobody.
    Result<> renew();
    // Zeroes in place, from OFFSET_BYTES of the BAR on: for who cannot be told of other memory.
    void clear(uint64_t offset_bytes, uint64_t size_bytes);

    const pci::Area& area() const { return area_; }
    bool contains(uint64_t offset_bytes, uint64_t size_bytes) const {
        return offset_bytes >= area_.offset_bytes &&
               offset_bytes + size_bytes <= area_.offset_bytes + area_.size_bytes;
    }
    // What vfio_user::Handler::memory() answers for a range of the BAR; empty outside.
    std::vector<pci::Extent> extents(uint64_t offset_bytes, uint64_t size_bytes) const;

    // OFFSET_BYTES is in the BAR, in the area, and a multiple of four.
    uint32_t load(uint64_t offset_bytes) const { return load_word(at(offset_bytes)); }
    void store(uint64_t offset_bytes, uint32_t value) { store_word(at(offset_bytes), value); }
    // Stores VALUE unless somebody has put something else than EXPECTED there meanwhile.
    void replace(uint64_t offset_bytes, uint32_t expected, uint32_t value) {
        std::atomic_ref(*reinterpret_cast<uint32_t*>(at(offset_bytes)))
            .compare_exchange_strong(expected, value, std::memory_order_acq_rel);
    }

  private:
    BarMemory(const char* name, pci::Area area) : name_(name), area_(area) {}
    std::byte* at(uint64_t offset_bytes) const {
        return mapping_.data() + (offset_bytes - area_.offset_bytes);
    }

    const char* name_;
    pci::Area area_;
    SharedFd fd_;
    Mapping mapping_;
};

} // namespace lanepool::device_model
