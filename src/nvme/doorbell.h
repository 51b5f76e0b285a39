// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/mapping.h"
#include "pci/function.h"

#include <memory>
#include <span>
#include <vector>

namespace lanepool::nvme {

// One doorbell register: a store to mapped memory, or a call where there is none. Shadow doorbells (Base
// Specification 2.0, section 5.8) spare most calls: then the value goes to memory that both sides see, and
// the call is made only when the controller asked for it.
class Doorbell {
  public:
    Doorbell() = default;
    // FUNCTION is for what is not MAPPED.
    Doorbell(pci::Function* function, uint64_t offset_bytes, std::byte* mapped)
        : function_(function), offset_bytes_(offset_bytes), mapped_(mapped) {}

    // SHADOW and EVENT_INDEX are the register's places in the two buffers; they must outlive the doorbell.
    void use_shadow(std::byte* shadow, const std::byte* event_index) {
        shadow_ = shadow;
        event_index_ = event_index;
    }
    bool mapped() const { return mapped_ != nullptr; }
    // Everything written before is visible to the device before VALUE is. Errors: those of a write.
    Result<> ring(uint16_t value);

  private:
    pci::Function* function_ = nullptr;
    uint64_t offset_bytes_ = 0;
    std::byte* mapped_ = nullptr;
    std::byte* shadow_ = nullptr;
    const std::byte* event_index_ = nullptr;
    uint16_t last_ = 0;
};

// The doorbell registers of a controller, mapped as far as they have memory. Made after each reset: the
// memory behind a region may be another one then.
class Doorbells {
  public:
    Doorbells() = default; // of no queue
    // STRIDE is CAP.DSTRD; QUEUES counts the admin queue. Errors: out_of_range when BAR0 is too small for
    // them.
    static Result<Doorbells> create(pci::Function& function, unsigned stride, uint32_t queues);

    // Over BAR0 as the caller has mapped it, from its start on; it must outlive this and the doorbells.
    static Result<Doorbells> create(std::span<std::byte> bar0, unsigned stride, uint32_t queues);

    // QUEUE must be below QUEUES.
    Doorbell submission(uint16_t queue) const;
    Doorbell completion(uint16_t queue) const;
    uint32_t queues() const { return queues_; }
    unsigned stride() const { return stride_; }

  private:
    struct Part {
        uint64_t offset_bytes;
        std::span<std::byte> bytes;
    };
    Doorbells(pci::Function* function, unsigned stride, uint32_t queues)
        : function_(function), stride_(stride), queues_(queues) {}
    static Result<uint64_t> check_room(uint64_t bar_bytes, unsigned stride, uint32_t queues);
    Doorbell at(uint64_t offset_bytes) const;

    pci::Function* function_ = nullptr; // none: all of them are mapped
    unsigned stride_ = 0;
    uint32_t queues_ = 0;
    std::vector<Part> parts_;
    std::vector<Mapping> mappings_;
};

} // namespace lanepool::nvme
