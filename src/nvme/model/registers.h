// SPDX-License-Identifier: Apache-2.0
//
// Controller properties (NVM Express Base Specification 2.0, section 3.1.3): storage and access rules. What a
// change sets in motion is the controller's.
#pragma once

#include "base/address.h"
#include "nvme/spec.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace lanepool::nvme::model {

class Registers {
  public:
    static constexpr size_t size_bytes = 0x1000; // the register page
    Registers();

    // ENTIRE: as after a function-level reset; else what a controller reset clears (section 3.7.2 keeps the
    // admin queue registers).
    void reset(bool entire);

    // OFFSET and size lie in the register page. Reads of several bytes may cross registers.
    std::vector<std::byte> read(uint64_t offset_bytes, size_t size_bytes) const;
    struct Written {
        uint32_t old_cc;
        bool cc;             // CC was written
        bool interrupt_mask; // INTMS or INTMC was
    };
    Written write(uint64_t offset_bytes, std::span<const std::byte> data);
    // A word that a client has put into memory: a write that was noticed later. Registers that act on the
    // write itself, whatever its value, ignore it.
    void write_mapped(uint64_t offset_bytes, uint32_t value, Written& written);
    uint32_t word(uint64_t offset_bytes) const { return get(offset_bytes); }
    // Changes when any word does.
    uint64_t generation() const { return generation_; }

    uint32_t cc() const { return get(reg::cc); }
    uint32_t csts() const { return get(reg::csts); }
    void set_csts(uint32_t value) { put(reg::csts, value); }
    template <class F>
    void set_csts(F field, uint32_t value) {
        put(reg::csts, field.set(csts(), value));
    }
    uint32_t interrupt_mask() const { return interrupt_mask_; }

    Iova submission_base() const { return base(reg::asq); }
    Iova completion_base() const { return base(reg::acq); }
    uint32_t submission_entries() const { return aqa::asqs.get(get(reg::aqa)) + 1; }
    uint32_t completion_entries() const { return aqa::acqs.get(get(reg::aqa)) + 1; }
    // Whether CC and the admin queue registers are such that the controller can be enabled.
    bool can_enable() const;

  private:
    uint32_t get(uint64_t offset) const;
    void put(uint64_t offset, uint32_t value);
    Iova base(uint64_t offset) const {
        return {(uint64_t{get(offset + 4)} << 32 | get(offset)) & ~(min_page_bytes - 1)};
    }
    void write32(uint64_t offset, uint32_t value, Written& written);

    std::array<uint32_t, size_bytes / 4> words_{};
    uint64_t generation_ = 1;
    uint32_t interrupt_mask_ = 0;
};

} // namespace lanepool::nvme::model
