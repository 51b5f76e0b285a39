// SPDX-License-Identifier: Apache-2.0
//
// The doorbell page: memory that the client maps and writes, and that the controller polls.
#pragma once

#include "base/mapping.h"
#include "base/result.h"
#include "nvme/model/config_space.h"

#include <atomic>
#include <cstdint>

namespace lanepool::nvme::model {

inline constexpr size_t doorbell_count = doorbell_page_bytes / sizeof(uint32_t);

// SQyTDBL and CQyHDBL as indexes into the page (CAP.DSTRD is 0), and into a shadow doorbell buffer.
constexpr size_t submission_doorbell(uint16_t queue) { return 2u * queue; }
constexpr size_t completion_doorbell(uint16_t queue) { return 2u * queue + 1u; }

// One aligned 32-bit word of memory that somebody else writes at the same time.
inline uint32_t load_word(const std::byte* address) {
    return std::atomic_ref(*reinterpret_cast<uint32_t*>(const_cast<std::byte*>(address)))
        .load(std::memory_order_acquire);
}
inline void store_word(std::byte* address, uint32_t value) {
    std::atomic_ref(*reinterpret_cast<uint32_t*>(address)).store(value, std::memory_order_release);
}

class Doorbells {
  public:
    static Result<Doorbells> create();

    // Other memory, of zeroes: who has mapped the old one writes to nobody.
    Result<> renew();
    // All zeroes, in place: for who cannot be told of other memory.
    void clear();

    const SharedFd& fd() const { return fd_; }
    uint32_t load(size_t index) const { return load_word(page_.data() + 4 * index); }
    void store(size_t index, uint32_t value) { store_word(page_.data() + 4 * index, value); }

  private:
    SharedFd fd_;
    Mapping page_;
};

} // namespace lanepool::nvme::model
