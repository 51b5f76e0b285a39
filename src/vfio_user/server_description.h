// SPDX-License-Identifier: Apache-2.0
//
// What a server says of its regions and interrupts, taken apart and checked: nothing of it is believed
// before. Free of sockets, for tests and fuzzers.
#pragma once

#include "pci/function.h"
#include "pci/types.h"
#include "vfio_user/frame_reader.h"

namespace lanepool::vfio_user {

// A region, and the one descriptor that stands behind its mappable areas, if any.
struct RegionDescription {
    pci::RegionInfo info;
    SharedFd fd;
    uint64_t base_bytes = 0; // of the region in the descriptor; may wrap around (see in_one_file)

    // What lies behind SIZE bytes at OFFSET, as far as the descriptor goes.
    std::vector<pci::Extent> memory(uint64_t offset_bytes, uint64_t size_bytes) const;
};

// The payload that the server would have liked room for, when it is more than what it sent.
Result<uint32_t> needed_bytes(const Message& reply);

// LANEPOOL: the server gives memory by lanepool_region_memory, and no descriptor here. Errors: protocol.
Result<RegionDescription> parse_region_info(Message reply, uint32_t index, bool lanepool);
Result<pci::IrqInfo> parse_irq_info(const Message& reply, uint32_t index);

struct MemoryPart {
    std::vector<pci::Extent> extents;
    uint64_t next_bytes; // from here on it has to be asked again, or the end of what was asked
};
// The answer to REQUEST. Errors: protocol for extents outside of it, that overlap or come to nothing.
Result<MemoryPart> parse_region_memory(Message reply, const wire::RegionMemory& request);

// The eventfd among the sub-regions that every 4-byte write at OFFSET signals. Errors: not_supported when
// there is none.
Result<UniqueFd> find_event(Message reply, uint32_t index, uint64_t offset_bytes);

} // namespace lanepool::vfio_user
