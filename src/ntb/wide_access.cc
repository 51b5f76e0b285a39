// SPDX-License-Identifier: Apache-2.0
#include "ntb/wide_access.h"

#include <cstring>

namespace lanepool::ntb {

namespace {

constexpr uint64_t page_bytes = 4096;

volatile uint64_t& word(const Mapping& page, uint64_t offset_bytes) {
    return *reinterpret_cast<volatile uint64_t*>(page.data() + offset_bytes % page_bytes);
}

} // namespace

std::shared_ptr<const WideAccess::Page> WideAccess::page(pci::Region region, uint64_t offset_bytes,
                                                         size_t size_bytes) {
    if (size_bytes != sizeof(uint64_t) || offset_bytes % sizeof(uint64_t) != 0 ||
        function_.hands_out_memory())
        return nullptr;
    const uint64_t start = offset_bytes / page_bytes * page_bytes;
    const std::lock_guard lock(mutex_);
    if (last_ && last_->region == region && last_->offset_bytes == start) return last_;
    const auto extents = function_.memory(region, start, page_bytes);
    if (!extents || extents->size() != 1 || extents->front().memory.size_bytes != page_bytes) return nullptr;
    auto mapping = Mapping::create(extents->front().memory);
    if (!mapping) return nullptr;
    last_ = std::make_shared<const Page>(Page{region, start, std::move(*mapping)});
    return last_;
}

Result<> WideAccess::read(pci::Region region, uint64_t offset_bytes, std::span<std::byte> data) {
    const auto mapped = page(region, offset_bytes, data.size());
    if (!mapped) return function_.read(region, offset_bytes, data);
    const uint64_t value = word(mapped->mapping, offset_bytes);
    std::memcpy(data.data(), &value, sizeof value);
    return {};
}

Result<> WideAccess::write(pci::Region region, uint64_t offset_bytes, std::span<const std::byte> data) {
    const auto mapped = page(region, offset_bytes, data.size());
    if (!mapped) return function_.write(region, offset_bytes, data);
    uint64_t value;
    std::memcpy(&value, data.data(), sizeof value);
    word(mapped->mapping, offset_bytes) = value;
    return {};
}

} // namespace lanepool::ntb
