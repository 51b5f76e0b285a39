// SPDX-License-Identifier: Apache-2.0
//
// The client's memory as the controller's DMA sees it: IOVA ranges, each behind a mapped descriptor, or
// reached by messages only, or an eventfd.
#pragma once

#include "base/address.h"
#include "base/mapping.h"
#include "base/result.h"
#include "device_model/sigbus_guard.h"
#include "vfio_user/handler.h"

#include <map>
#include <memory>

namespace lanepool::device_model {

// One mapped range. Who does asynchronous I/O on its memory holds a pointer: the addresses stay reserved
// until the last one is gone, whatever happens to the range.
class DmaRegion {
  public:
    static Result<std::shared_ptr<DmaRegion>> create(vfio_user::DmaMap map);

    const Range<Iova>& range() const { return range_; }
    bool writable() const { return access_ == Access::read_write; }
    bool is_memory() const { return static_cast<bool>(mapping_); }
    const UniqueFd& event() const { return event_; }
    std::byte* data() const { return mapping_.data(); }

    // Puts nothing behind the addresses: a transfer that is still under way in the kernel fails with EFAULT
    // from here on instead of reaching the client's memory.
    Result<> sever();

  private:
    explicit DmaRegion(Range<Iova> range, Access access) : range_(range), access_(access) {}

    Range<Iova> range_;
    Access access_;
    Mapping mapping_;
    SigbusGuard guard_; // destroyed before the mapping
    UniqueFd event_;
};

class GuestMemory {
  public:
    // A guest's IOMMU maps page by page; a client that goes on without end is stopped here.
    static constexpr size_t max_regions = SigbusGuard::max_ranges / 2;

    // Errors: invalid_argument for a descriptor that does not cover the range or is no file, no_space.
    Result<> map(vfio_user::DmaMap map);
    // Takes the range out: nothing finds it from now on. Null when there is none at exactly that place.
    std::shared_ptr<DmaRegion> unmap(const Range<Iova>& range);
    // All of them.
    std::vector<std::shared_ptr<DmaRegion>> clear();

    size_t size() const { return regions_.size(); }
    // Changes whenever a pointer that was given out may have lost its meaning.
    uint64_t generation() const { return generation_; }

    // The region that ADDRESS lies in, or null.
    const std::shared_ptr<DmaRegion>* find(Iova address) const;

    // The memory at ADDRESS, if all SIZE bytes lie in one region that has any and, for WRITE, lets write.
    std::byte* direct(Iova address, size_t size_bytes, bool write) const;

  private:
    std::map<uint64_t, std::shared_ptr<DmaRegion>> regions_; // by start
    mutable const std::shared_ptr<DmaRegion>* last_found_ = nullptr;
    uint64_t generation_ = 1;
};

// A pointer into guest memory that is looked up again only when the maps have changed: queues and shadow
// doorbells are touched with every command.
class GuestPointer {
  public:
    GuestPointer() = default;
    // SIZE_BYTES at ADDRESS; null when they do not lie in one region with memory.
    std::byte* get(const GuestMemory& memory, Iova address, size_t size_bytes, bool write) {
        if (generation_ != memory.generation() || address.value < start_ ||
            address.value - start_ >= size_bytes_ || size_bytes > size_bytes_ - (address.value - start_) ||
            (write && !writable_))
            if (!find(memory, address, size_bytes, write)) return nullptr;
        return data_ + (address.value - start_);
    }

  private:
    bool find(const GuestMemory& memory, Iova address, size_t size_bytes, bool write);
    uint64_t generation_ = 0;
    uint64_t start_ = 0;
    uint64_t size_bytes_ = 0;
    std::byte* data_ = nullptr;
    bool writable_ = false;
};

} // namespace lanepool::device_model
