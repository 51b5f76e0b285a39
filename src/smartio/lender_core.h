// SPDX-License-Identifier: Apache-2.0
//
// What the lender does to its device and adapter, step by step. Blocking, one thread at a time: Lender calls
// it on its worker and decides what may be called when.
#pragma once

#include "ntb/adapter.h"
#include "pci/function.h"
#include "smartio/device_class.h"
#include "smartio/device_segments.h"
#include "smartio/epoch_store.h"
#include "smartio/iova_space.h"
#include "smartio/loan_protocol.h"
#include "smartio/loan_ways.h"

#include <cstddef>
#include <map>
#include <optional>
#include <span>
#include <vector>

namespace lanepool::smartio {

class LenderCore {
  public:
    LenderCore(ntb::Adapter& adapter, pci::Function& device, DeviceClass& device_class, EpochStore& epochs,
               std::optional<pci::RequesterId> requester, LoanWays::Limits limits,
               DeviceSegments::Limits segment_limits)
        : adapter_(adapter), device_(device), class_(device_class), epochs_(epochs), requester_(requester),
          limits_(limits), segments_(adapter, segment_limits) {}

    // Records EPOCH, which must be higher than any before, then opens the ways that the borrower needs.
    // SHARED: others may join.
    Result<> prepare(uint64_t loan, uint64_t epoch, ntb::Partition borrower, bool shared);
    // Opens the ways of one more loan of a device that is lent shared in this epoch. One that is there
    // already: success. Errors: failed_precondition (not lent so).
    Result<> join(uint64_t loan, uint64_t epoch, ntb::Partition borrower);
    // Closes the ways of one of several loans. One that is not there: success. Goes on after an error and
    // returns the first.
    Result<> expel(uint64_t loan);
    // A request of LOAN's whose key has been checked.
    Result<std::vector<std::byte>> handle(uint64_t loan, LoanRequest request,
                                          std::span<const std::byte> body);
    // Closes everything and resets the device, whatever fails on the way; the first failure is returned.
    // EPOCH, if higher than any before, is recorded first.
    Result<> cut(uint64_t epoch);
    // Records EPOCH unless a higher one is there.
    Result<> raise(uint64_t epoch);

    Result<> reset();
    Result<> wipe(io::Duration deadline);
    Result<DeviceIdentity> identify() { return class_.identify(device_); }

    size_t memory_maps() const;

  private:
    struct Loan {
        Loan(Opened opened_as, ntb::Adapter& adapter, pci::Function& device, ntb::Partition borrower,
             LoanWays::Limits limits, IovaSpace& iovas)
            : opened(std::move(opened_as)), ways(adapter, device, borrower, limits, iovas) {}
        Opened opened;
        uint16_t command = 0; // what it wants of the device's command register
        LoanWays ways;
    };
    Result<Opened> describe();
    Result<> check_revocable(const Opened& opened) const;
    Result<> open_ways(uint64_t number, ntb::Partition borrower);
    Result<> export_bars(Loan& loan);
    Result<std::vector<std::byte>> handle_memory(uint64_t number, Loan& loan, LoanRequest request,
                                                 std::span<const std::byte> body);
    Result<> check_alone(const char* what) const;
    Result<> check_interrupts() const;
    Result<std::vector<std::byte>> guest_reset(Loan& loan);
    Result<> close(uint64_t number, Loan& loan);
    Result<> reset_in_loan(Loan& loan);
    Result<> config_write(Loan& loan, const ConfigWriteRequest& request);
    Result<> change_power_state(Loan& loan, uint16_t state);
    Result<> wake();
    bool registers_stay() const;
    Result<> apply_commands();
    Result<std::vector<std::byte>> config_status();

    ntb::Adapter& adapter_;
    pci::Function& device_;
    DeviceClass& class_;
    EpochStore& epochs_;
    const std::optional<pci::RequesterId> requester_;
    const LoanWays::Limits limits_;
    std::vector<std::byte> identity_; // config space at the first verified reset
    Opened description_;              // of the device as it was prepared, without addresses
    uint64_t epoch_ = 0;              // in which it is lent
    bool shared_ = false;
    size_t asleep_ = 0; // 0, or the power control register of a device that was sent to D3hot
    IovaSpace iovas_;
    DeviceSegments segments_;
    std::map<uint64_t, Loan> loans_; // there while it is lent
};

} // namespace lanepool::smartio
