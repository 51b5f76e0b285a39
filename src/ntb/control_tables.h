// SPDX-License-Identifier: Apache-2.0
//
// The tables of the adapter's control block, and who has what of them: windows and requesters. A failed
// change is taken back; what could not be taken back stays occupied and is cleared with the next change.
#pragma once

#include "base/result.h"
#include "ntb/control_block.h"
#include "ntb/probe.h"
#include "ntb/window_pool.h"

#include <mutex>
#include <span>
#include <vector>

namespace lanepool::ntb {

// Thread-safe. FUNCTION must outlive it.
class ControlTables {
  public:
    // Clears what an earlier owner left, divides the window BARs and lists the host itself as a requester.
    static Result<std::unique_ptr<ControlTables>> create(pci::Function& function, const Identity& identity);

    // As Adapter::open_windows, without looking at links.
    Result<std::vector<Placement>> open(std::span<const Target> targets);
    // All under one lock. On error they stay occupied until a later change has cleared them.
    Result<> close(std::span<const Placement> placements);

    // Entries are counted by id: the same device may be lent by several users. Errors: no_space.
    Result<unsigned> add_requester(pci::RequesterId id);
    Result<> remove_requester(unsigned slot);

    AdapterCapacity capacity() const;
    uint64_t usual_slot_bytes(uint64_t size_bytes) const { return pool_.usual_slot_bytes(size_bytes); }
    // Takes everything away at once.
    Result<> reset() { return block_.reset(); }

  private:
    struct Requester {
        uint16_t id = 0;
        unsigned users = 0;
    };
    ControlTables(ControlBlock block, WindowPool pool, unsigned requesters)
        : block_(block), pool_(std::move(pool)), requesters_(requesters) {}
    Result<> write_initial(const Identity& identity);
    const BarWindows& bar_of(const Placement& placement) const;
    Result<> clear(std::span<const Placement> placements);
    Result<> change(const std::function<Result<>()>& write, const std::function<Result<>()>& undo,
                    bool& clean);

    mutable std::mutex mutex_; // held while the control block is locked
    ControlBlock block_;
    WindowPool pool_;
    std::vector<Requester> requesters_;
    std::vector<Placement> left_over_; // closed by their owners, not yet by the switch
};

} // namespace lanepool::ntb
