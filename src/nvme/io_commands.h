// SPDX-License-Identifier: Apache-2.0
//
// Commands of the NVM command set, built and checked: submit them to a QueuePair. Blocks are logical blocks
// of the namespace. Errors: out_of_range for blocks outside of the namespace or a buffer that does not hold
// them, invalid_argument for a length of zero or over the limits.
#pragma once

#include "nvme/dma_memory.h"
#include "nvme/drive_info.h"
#include "nvme/spec.h"

namespace lanepool::nvme {

inline constexpr uint32_t max_blocks_per_command = 65536; // NLB has 16 bits and is 0's based

struct Buffer {
    const DmaMemory& memory;
    uint64_t offset_bytes = 0; // a multiple of four
};

Result<Command> make_read(const NamespaceInfo& ns, uint64_t first_block, uint32_t blocks, Buffer buffer);
Result<Command> make_write(const NamespaceInfo& ns, uint64_t first_block, uint32_t blocks, Buffer buffer,
                           bool force_unit_access = false);
Command make_flush(const NamespaceInfo& ns);
// DEALLOCATE lets the controller give the blocks back instead of writing them.
Result<Command> make_write_zeroes(const NamespaceInfo& ns, uint64_t first_block, uint32_t blocks,
                                  bool deallocate);
// Deallocates RANGES, at most dsm::max_ranges of them; they are written to BUFFER, which the command reads.
Result<Command> make_deallocate(const NamespaceInfo& ns, std::span<const DsmRange> ranges, Buffer buffer);

} // namespace lanepool::nvme
