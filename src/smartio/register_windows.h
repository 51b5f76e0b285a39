// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"
#include "ntb/adapter.h"
#include "pci/function.h"
#include "smartio/loan_protocol.h"

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

namespace lanepool::smartio {

// The borrower's windows to the lent device's BARs and the memory that is behind them. Constant once opened;
// read() and write() block and may be called from any thread.
class RegisterWindows {
  public:
    // Blocking. One window for each BAR that has a size, all or nothing.
    static Result<std::shared_ptr<const RegisterWindows>> open(ntb::Adapter& adapter, ntb::Partition lender,
                                                               const Opened& opened);

    Result<> read(pci::Region bar, uint64_t offset_bytes, std::span<std::byte> data) const;
    // Returns once the device has it where it has mapped registers: a driver that goes on with one of those
    // must not overtake this write, as it would not on a bus, and the fabric takes writes without waiting.
    Result<> write(pci::Region bar, uint64_t offset_bytes, std::span<const std::byte> data) const;

    // What a client may map: the areas that the lender says may be mapped, as far as there is memory behind
    // them, in whole pages.
    std::vector<pci::Area> mappable(pci::Region bar) const;
    // The memory behind those areas, within the given range.
    std::vector<pci::Extent> memory(pci::Region bar, uint64_t offset_bytes, uint64_t size_bytes) const;

    // All of it as a part of an adapter card; size 0 where it is none, see ntb::Window::card_memory().
    MemoryRef card_memory(pci::Region bar) const;

  private:
    RegisterWindows() = default;
    const ntb::Window* window(pci::Region bar) const;
    const std::vector<pci::Extent>& extents(pci::Region bar) const;

    std::array<ntb::Window, pci::bar_count> windows_;
    ntb::Window flush_;
    std::array<std::vector<pci::Extent>, pci::bar_count> extents_; // ascending
};

// The parts of EXTENTS that lie in AREAS, cut to whole pages of the client's address space. Both ascending.
std::vector<pci::Extent> clip_to_pages(const std::vector<pci::Extent>& extents,
                                       const std::vector<pci::Area>& areas);

} // namespace lanepool::smartio
