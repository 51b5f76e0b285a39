// SPDX-License-Identifier: Apache-2.0
#include "device_model/bar_memory.h"

#include <algorithm>

namespace lanepool::device_model {

Result<BarMemory> BarMemory::create(const char* name, pci::Area area) {
    BarMemory memory(name, area);
    TRY(memory.renew());
    return memory;
}

Result<> BarMemory::renew() {
    auto fd = share(TRY(create_memory(name_, area_.size_bytes)));
    mapping_ = TRY(Mapping::create(fd->get(), 0, area_.size_bytes));
    fd_ = std::move(fd);
    return {};
}

void BarMemory::clear(uint64_t offset_bytes, uint64_t size_bytes) {
    for (uint64_t done = 0; done < size_bytes; done += sizeof(uint32_t))
        store(offset_bytes + done, 0);
}

std::vector<pci::Extent> BarMemory::extents(uint64_t offset_bytes, uint64_t size_bytes) const {
    const uint64_t start = std::max(offset_bytes, area_.offset_bytes);
    const uint64_t end = std::min(offset_bytes + size_bytes, area_.offset_bytes + area_.size_bytes);
    if (start >= end) return {};
    return {{start, MemoryRef{fd_, start - area_.offset_bytes, end - start}}};
}

} // namespace lanepool::device_model
