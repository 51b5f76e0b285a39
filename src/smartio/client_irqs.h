// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ntb/adapter.h"
#include "smartio/errands.h"
#include "smartio/loan_link.h"
#include "vfio_user/handler.h"

#include <array>
#include <cstdint>
#include <vector>

namespace lanepool::smartio {

// The eventfds that the client of a borrowed function wants its interrupts on: exported on the adapter and
// made known to the lender. On the loop's thread.
class ClientIrqs {
  public:
    ClientIrqs(Errands& errands, ntb::Adapter& adapter, LoanLink& link)
        : errands_(errands), adapter_(adapter), link_(link) {}

    // As vfio_user::Handler's. The reply comes once the device signals there.
    void set(pci::Irq index, uint32_t first, std::vector<UniqueFd> eventfds, vfio_user::Reply<void> reply);
    // These are all vectors of the index, whatever there was before.
    void replace(pci::Irq index, std::vector<UniqueFd> eventfds, vfio_user::Reply<void> reply);

    // Forgets everything and hands out what is exported: withdraw it when the lender has turned interrupts
    // off.
    std::vector<ntb::Export> forget();

    bool active(pci::Irq index) const; // some vector of it has an eventfd

  private:
    struct Index {
        std::vector<SharedFd> events; // all vectors; null: none
        ntb::Export exported;         // of `events` as the lender has them
    };
    void start(pci::Irq index, vfio_user::Reply<void> reply);
    void exported(pci::Irq index, std::vector<SharedFd> events, Result<ntb::Export> result,
                  vfio_user::Reply<void> reply);

    Errands& errands_;
    ntb::Adapter& adapter_;
    LoanLink& link_;
    std::array<Index, 3> indices_;
    uint64_t generation_ = 0; // grows by forget(): answers of an earlier one come too late
};

} // namespace lanepool::smartio
