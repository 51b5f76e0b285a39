// SPDX-License-Identifier: Apache-2.0
//
// Access to the registers of an NT endpoint (BAR 0). None of those that the driver reads can hold all-ones
// while the endpoint answers, so such a read always means that it has gone, as on a real bus; but for the
// lower half of a map of partitions.
#pragma once

#include "base/result.h"
#include "pci/function.h"

#include <cstdint>

namespace lanepool::ntb {

// Thread-safe as far as pci::Function is. Errors of all: what the function reports; of reads also
// `disconnected`.
class Registers {
  public:
    explicit Registers(pci::Function& function) : function_(&function) {}

    Result<uint8_t> read8(uint64_t offset_bytes) const;
    Result<uint16_t> read16(uint64_t offset_bytes) const;
    Result<uint32_t> read32(uint64_t offset_bytes) const;
    // What somebody else wrote: it may be all-ones.
    Result<uint32_t> read_text(uint64_t offset_bytes) const;
    // A bit for each partition, in two reads: it may be misaligned, and some bridges split or refuse those.
    Result<uint64_t> read_partition_map(uint64_t offset_bytes) const;
    Result<> write8(uint64_t offset_bytes, uint8_t value) const;
    Result<> write32(uint64_t offset_bytes, uint32_t value) const;
    Result<> write64(uint64_t offset_bytes, uint64_t value) const;

  private:
    pci::Function* function_;
};

} // namespace lanepool::ntb
