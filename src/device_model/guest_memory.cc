// SPDX-License-Identifier: Apache-2.0
#include "device_model/guest_memory.h"

#include <sys/mman.h>
#include <sys/stat.h>

namespace lanepool::device_model {

namespace {
constexpr uintptr_t page_bytes = 4096;

Result<> check_covers(const MemoryRef& memory, const Range<Iova>& range) {
    struct stat status {};
    if (::fstat(memory.fd->get(), &status) != 0) return fail_errno("asking for the size of DMA memory");
    if (!S_ISREG(status.st_mode))
        return fail(Errc::invalid_argument, "the descriptor behind DMA range {:#x} is not a memory file",
                    range.start().value);
    const auto size = static_cast<uint64_t>(status.st_size);
    if (memory.size_bytes < range.size_bytes() || memory.offset_bytes > size ||
        range.size_bytes() > size - memory.offset_bytes)
        return fail(Errc::invalid_argument,
                    "DMA range {:#x} of {} bytes does not lie in its descriptor's {} bytes from offset {:#x}",
                    range.start().value, range.size_bytes(), size, memory.offset_bytes);
    return {};
}
} // namespace

Result<std::shared_ptr<DmaRegion>> DmaRegion::create(vfio_user::DmaMap map) {
    std::shared_ptr<DmaRegion> region(new DmaRegion(map.range, map.access));
    region->event_ = std::move(map.event);
    if (map.memory) {
        TRY(check_covers(*map.memory, map.range));
        region->mapping_ = TRY(Mapping::create(map.memory->fd->get(), map.memory->offset_bytes,
                                               map.range.size_bytes(), map.access));
        region->guard_ = SigbusGuard(region->mapping_.data(), region->mapping_.size_bytes());
        if (!region->guard_) return fail(Errc::no_space, "too much client memory is mapped");
    }
    return region;
}

Result<> DmaRegion::sever() {
    if (!mapping_) return {};
    const auto start = reinterpret_cast<uintptr_t>(mapping_.data()) & ~(page_bytes - 1);
    const auto end = (reinterpret_cast<uintptr_t>(mapping_.data()) + mapping_.size_bytes() + page_bytes - 1) &
                     ~(page_bytes - 1);
    if (::mmap(reinterpret_cast<void*>(start), end - start, PROT_NONE,
               MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) == MAP_FAILED)
        return fail_errno("cutting the controller off from client memory");
    return {};
}

Result<> GuestMemory::map(vfio_user::DmaMap map) {
    if (regions_.size() >= max_regions)
        return fail(Errc::no_space, "{} DMA ranges are mapped already, no more can be", regions_.size());
    const auto next = regions_.lower_bound(map.range.start().value);
    if ((next != regions_.end() && next->second->range().overlaps(map.range)) ||
        (next != regions_.begin() && std::prev(next)->second->range().overlaps(map.range)))
        return fail(Errc::already_exists, "DMA range {:#x} of {} bytes overlaps one that is mapped",
                    map.range.start().value, map.range.size_bytes());
    auto region = TRY(DmaRegion::create(std::move(map)));
    const uint64_t start = region->range().start().value;
    regions_.emplace(start, std::move(region));
    last_found_ = nullptr;
    return {};
}

std::shared_ptr<DmaRegion> GuestMemory::unmap(const Range<Iova>& range) {
    const auto found = regions_.find(range.start().value);
    if (found == regions_.end() || !(found->second->range() == range)) return nullptr;
    auto region = std::move(found->second);
    regions_.erase(found);
    last_found_ = nullptr;
    ++generation_;
    return region;
}

std::vector<std::shared_ptr<DmaRegion>> GuestMemory::clear() {
    std::vector<std::shared_ptr<DmaRegion>> all;
    for (auto& [start, region] : regions_)
        all.push_back(std::move(region));
    regions_.clear();
    last_found_ = nullptr;
    ++generation_;
    return all;
}

const std::shared_ptr<DmaRegion>* GuestMemory::find(Iova address) const {
    if (last_found_ && (*last_found_)->range().contains(address)) return last_found_;
    auto next = regions_.upper_bound(address.value);
    if (next == regions_.begin()) return nullptr;
    const auto& region = std::prev(next)->second;
    if (!region->range().contains(address)) return nullptr;
    last_found_ = &region;
    return last_found_;
}

std::byte* GuestMemory::direct(Iova address, size_t size_bytes, bool write) const {
    const auto* region = find(address);
    if (!region || !(*region)->is_memory() || (write && !(*region)->writable())) return nullptr;
    const auto& range = (*region)->range();
    const uint64_t offset = address - range.start();
    if (size_bytes > range.size_bytes() - offset) return nullptr;
    return (*region)->data() + offset;
}

bool GuestPointer::find(const GuestMemory& memory, Iova address, size_t size_bytes, bool write) {
    generation_ = 0;
    if (!memory.direct(address, size_bytes, write)) return false;
    const auto& region = **memory.find(address);
    generation_ = memory.generation();
    start_ = region.range().start().value;
    size_bytes_ = region.range().size_bytes();
    data_ = region.data();
    writable_ = region.writable();
    return true;
}

} // namespace lanepool::device_model
