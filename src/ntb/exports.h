// SPDX-License-Identifier: Apache-2.0
//
// What this host exports: the adapter's DMA mappings and their bus addresses.
#pragma once

#include "base/mapping.h"
#include "ntb/bus_allocator.h"
#include "pci/function.h"

#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

namespace lanepool::ntb {

// Thread-safe. FUNCTION must outlive it.
class Exports {
  public:
    explicit Exports(pci::Function& function);

    using Mappings = std::vector<pci::DmaMapping>;
    // Maps what MAP maps, at ADDRESS, or where a block of SLOT_BYTES (a power of two) or more is free.
    Result<BusAddress> add(std::optional<BusAddress> address, uint64_t size_bytes, uint64_t slot_bytes,
                           const std::function<Result<Mappings>(Iova start)>& map);
    // Unmaps. An address whose unmapping the function did not confirm is never used again.
    Result<> remove(BusAddress address);
    void clear();

    pci::Function& function() const { return function_; }

  private:
    static Result<> unmap(Mappings& mappings);

    pci::Function& function_;
    std::mutex mutex_;
    BusAllocator addresses_;
    std::map<BusAddress, Mappings> mappings_;
};

} // namespace lanepool::ntb
