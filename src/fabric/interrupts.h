// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "pci/types.h"

#include <vector>

namespace lanepool::fabric {

// The eventfds that a client set up for a port's MSI or MSI-X vectors.
class Interrupts {
  public:
    // As vfio_user::Handler::set_irqs. Errors: not_supported, out_of_range.
    Result<> set(pci::Irq index, uint32_t first, std::vector<UniqueFd> eventfds);
    // False when nobody listens to VECTOR: the interrupt is lost, as with a card whose vectors are masked
    // off.
    bool raise(unsigned vector) const;
    void reset() { vectors_.clear(); }

  private:
    pci::Irq index_ = pci::Irq::msix; // of those in vectors_: one way of signalling at a time
    std::vector<UniqueFd> vectors_;
};

} // namespace lanepool::fabric
