// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/address.h"
#include "base/result.h"
#include "fabric/backing.h"
#include "vfio_user/handler.h"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>

namespace lanepool::fabric {

// With an IOMMU, a guest maps page by page: 1 GiB of it is this many.
inline constexpr size_t max_dma_mappings = 262144;
// How many files a client's memory may lie in: each is a descriptor of this process.
inline constexpr size_t max_backings = 4096;

// What a client lets its port reach.
struct DmaMapping {
    Access access = Access::read_write;
    std::shared_ptr<Backing> memory; // none: an event, or reached by messages
    uint64_t memory_offset_bytes = 0;
    std::shared_ptr<const UniqueFd> event;
};

// What one address means, and for how many bytes that holds.
struct DmaPlace {
    std::optional<DmaMapping> mapping; // none: nothing is mapped there
    uint64_t size_bytes = 0;
};

class DmaTable {
  public:
    // Errors: no_space (too many), out_of_range (the memory's range overflows).
    Result<> map(vfio_user::DmaMap map);
    void unmap(Range<Iova> range);
    void clear();

    // At most SIZE bytes (not 0) from ADDRESS.
    DmaPlace at(Iova address, uint64_t size_bytes) const;
    size_t count() const { return mappings_.size(); }

  private:
    struct Entry {
        Range<Iova> range;
        DmaMapping mapping;
    };
    Result<std::shared_ptr<Backing>> backing(SharedFd fd, Access access);

    std::map<uint64_t, Entry> mappings_; // by start
    std::map<FileIdentity, std::weak_ptr<Backing>> files_;
    ino_t next_anonymous_ = 0;
};

} // namespace lanepool::fabric
