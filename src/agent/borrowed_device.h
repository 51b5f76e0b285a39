// SPDX-License-Identifier: Apache-2.0
//
// One loan on this host as its borrower, whoever receives the device here: a guest (guest_loan.h) or this
// host's own kernel (kernel_loan.h). Everything on the loop's thread.
#pragma once

#include "admin/server.h"
#include "io/clock.h"
#include "ntb/adapter.h"
#include "smartio/loan_key.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace lanepool::agent {

struct BorrowedDeviceEvents {
    // REASON: the loan cannot go on. Called once, after attach() has succeeded and before detach() was
    // called.
    std::function<void(const std::string& reason)> lost;
    // It does not linger any more: it may be destroyed, but not from inside of this call.
    std::function<void()> ended;
};

class BorrowedDevice {
  public:
    using Done = std::function<void(Result<>)>;

    // What this host's kernel has of it.
    struct InKernel {
        uint64_t dma_bytes = 0;
        std::string function; // "1ff00:00:00.0"
        std::string driver;   // empty: none has taken it
    };

    virtual ~BorrowedDevice() = default;

    virtual const smartio::LoanKey& key() const = 0;
    virtual ntb::Partition lender() const = 0;
    virtual bool attached() const = 0;

    // Reaches the device and gives it to its receiver; DONE when a driver there has taken it. A failure has
    // undone everything but what the receiver still holds: detach() in any case.
    virtual void attach(Done done) = 0;
    // Asks the receiver to let go, for at most DEADLINE, then takes the function away and tells the lender.
    // The error is the receiver's; the function is gone in either case. ASK: where somebody uses it there,
    // changes nothing and answers `busy`, naming who; attached() is true still.
    virtual void detach(io::Duration deadline, bool ask, Done done) = 0;
    // The same for a loan that is cut at the lender already: the receiver finds the function gone, as after a
    // surprise removal, instead of waiting for answers that do not come.
    virtual void detach_cut_off(io::Duration deadline, Done done) = 0;
    virtual void lender_lost() = 0;
    // This host's adapter is about to go: whatever was made from it is given back before this returns. The
    // loan is over, and nobody is told.
    virtual void adapter_gone() = 0;
    // After its end: somebody here still holds something of it, so that it must stay until `ended`.
    virtual bool lingers() const = 0;

    // None: no kernel of this host has it.
    virtual std::optional<InKernel> in_kernel() const { return std::nullopt; }
    // For the administration socket: what it is, beyond the loan's number; and what was handled by messages,
    // and so by software, since it began (null: nothing yet), the number of such messages as "messages".
    virtual admin::Json status() const = 0;
    virtual admin::Json stats() const = 0;
};

} // namespace lanepool::agent
