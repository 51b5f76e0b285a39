// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/mapping.h"
#include "pci/function.h"

#include <atomic>
#include <memory>
#include <shared_mutex>
#include <span>
#include <variant>
#include <vector>

namespace lanepool::ntb {

// What stands behind one export, as windows of its own host reach it: without the switch, which leads nobody
// to himself. Behaves as the way over the switch does, also when the export has been withdrawn: reads give
// all-ones, writes go nowhere, there is no memory and no event. Thread-safe. Offsets are relative to the
// export.
class LocalExport : public std::enable_shared_from_this<LocalExport> {
  public:
    struct Registers {
        pci::Function* device; // until withdraw()
        pci::Region region;
        uint64_t offset_bytes;
    };
    struct Events {                     // 4 bytes each
        std::vector<SharedFd> eventfds; // null: nothing happens
    };
    struct Addresses {}; // what is behind them, only the adapter's IOMMU knows
    using Source = std::variant<std::monostate, MemoryRef, Registers, Events, Addresses>;

    LocalExport(Source source, uint64_t size_bytes, Access access)
        : source_(std::move(source)), size_bytes_(size_bytes), access_(access) {}

    uint64_t size_bytes() const { return size_bytes_; }

    // The caller has checked that the range lies inside.
    Result<> read(uint64_t offset_bytes, std::span<std::byte> data) const;
    Result<> write(uint64_t offset_bytes, std::span<const std::byte> data) const;
    Result<std::vector<pci::Extent>> memory(uint64_t offset_bytes, uint64_t size_bytes) const;
    Result<UniqueFd> event(uint64_t offset_bytes) const;
    // As pci::map_peer. Errors also: invalid_argument for writes to what is exported for reading only.
    Result<std::vector<pci::DmaMapping>> map_for(pci::Function& device, Iova iova, uint64_t offset_bytes,
                                                 uint64_t size_bytes, Access access) const;

    // Returns when nobody uses what is behind it any more.
    void withdraw();

  private:
    class Calls;
    template <class T, class Use>
    Result<T> use(Result<T> gone, Use use) const;
    // Whether it is events.
    Result<bool> check_for(const pci::Function& device, Access access) const;

    mutable std::shared_mutex mutex_;    // exclusively held while it is withdrawn
    std::atomic<bool> withdrawn_{false}; // set before that: users who come do not keep it waiting
    Source source_;
    const uint64_t size_bytes_;
    const Access access_;
};

// Where in which export a range of bus addresses lies.
struct LocalTarget {
    std::shared_ptr<const LocalExport> exported;
    uint64_t offset_bytes = 0;
};

} // namespace lanepool::ntb
