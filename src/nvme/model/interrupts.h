// SPDX-License-Identifier: Apache-2.0
//
// The controller's interrupts: MSI-X, MSI or INTx, whichever the client has set up, each vector an eventfd.
#pragma once

#include "base/unique_fd.h"
#include "pci/types.h"

#include <array>
#include <cstdint>
#include <vector>

namespace lanepool::nvme::model {

class Interrupts {
  public:
    explicit Interrupts(bool msix);

    const pci::IrqInfo& info(pci::Irq index) const { return info_[static_cast<size_t>(index)]; }
    // As vfio_user::Handler::set_irqs; the range has been checked against info().
    void set(pci::Irq index, uint32_t first, std::vector<UniqueFd> eventfds);
    void mask(pci::Irq index, uint32_t vector, bool masked);
    // Nothing is set up any more.
    void reset();

    // INTMS and INTMC: for MSI and INTx (section 3.1.3.3).
    uint32_t register_mask() const { return register_mask_; }
    void set_register_mask(uint32_t mask) { register_mask_ = mask; }

    // Whether a message interrupt is in use; otherwise the level of INTx counts.
    bool uses_messages() const { return active_ != pci::Irq::intx; }
    // Signals VECTOR as a message. False when it cannot be delivered now (masked): try again later.
    bool raise(uint16_t vector);
    // INTx is asserted or not; signals when it becomes so, and when it is unmasked while it still is.
    void set_level(bool asserted);

    uint64_t raised() const { return raised_; }

  private:
    struct Vector {
        UniqueFd event;
        bool masked = false;
        bool pending = false;
    };
    void choose_active();

    std::array<pci::IrqInfo, pci::irq_count> info_;
    std::array<std::vector<Vector>, pci::irq_count> vectors_;
    pci::Irq active_ = pci::Irq::intx;
    uint32_t register_mask_ = 0;
    bool level_ = false;
    uint64_t raised_ = 0;
};

} // namespace lanepool::nvme::model
