// SPDX-License-Identifier: Apache-2.0
//
// What this host exports: the adapter's DMA mappings and their bus addresses.
#pragma once

#include "base/mapping.h"
#include "ntb/bus_allocator.h"
#include "ntb/event_words.h"
#include "ntb/local_export.h"
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
    using Map = std::function<Result<Mappings>(Iova start)>;
    // Maps what MAP maps, which is what is behind LOCAL, at ADDRESS, or where a block of SLOT_BYTES (a power
    // of two) or more is free.
    Result<BusAddress> add(std::optional<BusAddress> address, std::shared_ptr<LocalExport> local,
                           uint64_t slot_bytes, const Map& map);
    // The same for WORDS, in the range of event words.
    Result<BusAddress> add(EventWords::Area words, std::shared_ptr<LocalExport> local, uint64_t slot_bytes);
    // The export in which all of the range lies. Errors: not_found.
    Result<LocalTarget> find(BusAddress address, uint64_t size_bytes);
    // Unmaps. An address whose unmapping the function did not confirm is never used again.
    Result<> remove(BusAddress address);
    void clear();

    pci::Function& function() const { return function_; }

  private:
    struct Entry {
        std::shared_ptr<LocalExport> local;
        EventWords::Area words; // given up after what maps them
        Mappings mappings;
    };
    static Result<> withdraw(Entry& entry);
    Result<BusAddress> map_at(BusAddress start, Entry entry, const Map& map);
    BusAllocator& space_of(BusAddress address) { return is_event_word(address) ? words_ : addresses_; }

    pci::Function& function_;
    std::mutex mutex_;
    BusAllocator addresses_;
    BusAllocator words_;
    std::map<BusAddress, Entry> entries_; // by start
};

} // namespace lanepool::ntb
