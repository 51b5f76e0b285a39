// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/mapping.h"
#include "base/result.h"
#include "pci/function.h"

#include <memory>
#include <mutex>
#include <span>

namespace lanepool::ntb {

// Accesses to a card's windows, those of 8 aligned bytes as one: some kernels' VFIO does them in two halves
// (Linux before 6.10), which is something else to a register. Thread-safe. The card's memory space stays on
// while it is in use.
class WideAccess {
  public:
    explicit WideAccess(pci::Function& function) : function_(function) {}

    // As pci::Function's.
    Result<> read(pci::Region region, uint64_t offset_bytes, std::span<std::byte> data);
    Result<> write(pci::Region region, uint64_t offset_bytes, std::span<const std::byte> data);

  private:
    struct Page {
        pci::Region region;
        uint64_t offset_bytes;
        Mapping mapping;
    };
    // The page in which 8 bytes at OFFSET lie; null: by calls.
    std::shared_ptr<const Page> page(pci::Region region, uint64_t offset_bytes, size_t size_bytes);

    pci::Function& function_;
    std::mutex mutex_;
    std::shared_ptr<const Page> last_; // a driver stays in one page for long
};

} // namespace lanepool::ntb
