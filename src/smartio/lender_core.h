// SPDX-License-Identifier: Apache-2.0
//
// What the lender does to its device and adapter, step by step. Blocking, one thread at a time: Lender calls
// it on its worker and decides what may be called when.
#pragma once

#include "ntb/adapter.h"
#include "pci/function.h"
#include "smartio/device_class.h"
#include "smartio/epoch_store.h"
#include "smartio/loan_protocol.h"
#include "smartio/loan_ways.h"

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

namespace lanepool::smartio {

class LenderCore {
  public:
    LenderCore(ntb::Adapter& adapter, pci::Function& device, DeviceClass& device_class, EpochStore& epochs,
               std::optional<pci::RequesterId> requester, LoanWays::Limits limits)
        : adapter_(adapter), device_(device), class_(device_class), epochs_(epochs), requester_(requester),
          limits_(limits) {}

    // Records EPOCH, which must be higher than any before, then opens the ways that the borrower needs.
    Result<> prepare(uint64_t epoch, ntb::Partition borrower);
    // A request whose key has been checked.
    Result<std::vector<std::byte>> handle(LoanRequest request, std::span<const std::byte> body);
    // Closes everything and resets the device, whatever fails on the way; the first failure is returned.
    // EPOCH, if higher than any before, is recorded first.
    Result<> cut(uint64_t epoch);
    // Records EPOCH unless a higher one is there.
    Result<> raise(uint64_t epoch);

    Result<> reset();
    Result<> wipe(io::Duration deadline);
    Result<DeviceIdentity> identify() { return class_.identify(device_); }

    size_t memory_maps() const { return ways_ ? ways_->memory_maps() : 0; }

  private:
    Result<Opened> describe();
    Result<> check_revocable(const Opened& opened) const;
    Result<std::vector<std::byte>> guest_reset();
    Result<> guest_close();
    Result<> reset_in_loan();
    Result<> config_write(const ConfigWriteRequest& request);
    Result<std::vector<std::byte>> config_status();

    ntb::Adapter& adapter_;
    pci::Function& device_;
    DeviceClass& class_;
    EpochStore& epochs_;
    const std::optional<pci::RequesterId> requester_;
    const LoanWays::Limits limits_;
    std::vector<std::byte> identity_; // config space at the first verified reset
    Opened opened_;                   // of the loan
    std::optional<LoanWays> ways_;    // there while it is lent
};

} // namespace lanepool::smartio
