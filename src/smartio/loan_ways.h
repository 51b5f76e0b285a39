// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ntb/adapter.h"
#include "pci/function.h"
#include "smartio/iova_space.h"
#include "smartio/loan_protocol.h"

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

namespace lanepool::smartio {

// Every way that is open between a lent device and its borrower: the device's registers exported on the
// lender's adapter, the borrower's memory and interrupts in windows of it. Blocking, one thread at a time.
// Destroying closes what is open, without a word to the device beyond the unmapping.
class LoanWays {
  public:
    struct Limits {
        size_t memory_maps;
        uint64_t mapped_bytes;
    };
    // IOVAS: of the device, which other loans may have in common with this one.
    LoanWays(ntb::Adapter& adapter, pci::Function& device, ntb::Partition borrower, Limits limits,
             IovaSpace& iovas)
        : adapter_(adapter), device_(device), borrower_(borrower), limits_(limits), iovas_(iovas) {}
    ~LoanWays();
    LoanWays(const LoanWays&) = delete;
    LoanWays& operator=(const LoanWays&) = delete;

    // Exports the BARs of OPENED that have a size, each exactly, and enters their addresses there. Where some
    // registers are mapped and others are reached by calls, a read-only export of the device's config space
    // lets the borrower wait for its writes. Through a card, all accesses arrive in the order in which they
    // were sent, so that there is none; and the pages of the MSI-X table, which it can leave out, are blank
    // ones, so that a borrower's kernel finds what it writes there. All or nothing.
    Result<> export_bars(Opened& opened);
    Result<> withdraw_bars(); // an error: the adapter did not confirm that they are out of reach
    Result<> let_pass(pci::RequesterId requester);

    // Errors: already_exists (overlap), no_space (limits, windows), and what adapter and device say.
    Result<> map(const MapRequest& request);
    // Errors also: invalid_argument (memory in which hosts' agents talk, or for reading only), not_found (not
    // exported, of this host's), failed_precondition (that host is down).
    Result<Placed> place(const PlaceRequest& request);
    Result<>
    unmap(const UnmapRequest& request); // not_found unless it is exactly one that was mapped or placed
    Result<> set_irqs(const SetIrqsRequest& request);
    // What set_irqs() set up, once more: after a reset of the device.
    Result<> restore_irqs();

    // Interrupts off and memory unmapped, with the device's confirmation; windows are closed in any case.
    // Goes on after an error and returns the first.
    Result<> release_irqs();
    Result<> release_memory();

    size_t memory_maps() const { return memory_.size(); }

  private:
    struct Memory { // the mappings end before the window closes
        Range<Iova> range;
        ntb::Window window;
        std::vector<pci::DmaMapping> mappings;
    };
    struct Irqs {
        ntb::Window window;
        std::vector<UniqueFd> events;
    };
    Result<ntb::Export> export_bar(const Opened& opened, size_t i);
    Result<> check_limits(uint64_t size_bytes) const;
    Result<> open(Range<Iova> range, const ntb::Target& target, Access access);
    Result<> apply_irqs(pci::Irq index, const std::vector<UniqueFd>& events);

    ntb::Adapter& adapter_;
    pci::Function& device_;
    const ntb::Partition borrower_;
    const Limits limits_;
    IovaSpace& iovas_;
    ntb::Adapter::Requester requester_;
    std::array<ntb::Export, pci::bar_count> bars_;
    ntb::Export flush_;
    std::map<Iova, Memory> memory_; // by the first address
    uint64_t mapped_bytes_ = 0;
    std::array<std::optional<Irqs>, 3> irqs_;
};

} // namespace lanepool::smartio
