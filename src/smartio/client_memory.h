// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ntb/adapter.h"
#include "smartio/errands.h"
#include "smartio/loan_link.h"
#include "vfio_user/handler.h"

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

namespace lanepool::smartio {

// The memory that the client of a borrowed function maps: exported on the adapter and made known to the
// lender. On the loop's thread.
//
// Not everything that QEMU maps can or need be reached: ranges without a descriptor (other devices'
// registers, this function's own BARs) and read-only ones (ROMs) are taken without effect.
class ClientMemory {
  public:
    ClientMemory(Errands& errands, ntb::Adapter& adapter, LoanLink& link, size_t max_maps)
        : errands_(errands), adapter_(adapter), link_(link), max_maps_(max_maps) {}

    // The reply comes once the device has the memory. Errors: already_exists (overlap), no_space,
    // not_supported (an event), and what adapter and lender say.
    void map(vfio_user::DmaMap map, vfio_user::Reply<void> reply);
    // The reply comes once the device does not have it any more. Errors: not_found.
    void unmap(Range<Iova> range, vfio_user::Reply<void> reply);

    // Forgets everything and hands out what is exported: withdraw it when the lender has closed the memory.
    std::vector<ntb::Export> forget();

    size_t maps() const { return entries_.size(); }
    size_t reachable() const;

  private:
    struct Entry {
        uint64_t id; // an answer may come when the range belongs to another entry already
        Range<Iova> range;
        bool reachable = false;
        ntb::Export exported; // empty until the adapter has it
    };
    Entry* find(uint64_t id, Iova start);
    void exported(uint64_t id, Range<Iova> range, Access access, Result<ntb::Export> result,
                  vfio_user::Reply<void> reply);
    void confirmed(uint64_t id, Iova start, Result<> result, vfio_user::Reply<void> reply);

    Errands& errands_;
    ntb::Adapter& adapter_;
    LoanLink& link_;
    const size_t max_maps_;
    std::map<Iova, Entry> entries_; // by the first address
    uint64_t next_id_ = 1;
};

} // namespace lanepool::smartio
