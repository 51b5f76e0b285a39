// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "pci/types.h"
#include "vfio/kernel.h"

#include <array>
#include <cstddef>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

namespace lanepool::vfio {

// What VFIO_DEVICE_SET_IRQS takes (struct vfio_irq_set): COUNT vectors from START; EVENTFDS may be empty.
std::vector<std::byte> encode_irq_set(pci::Irq index, uint32_t flags, uint32_t start, uint32_t count,
                                      std::span<const int> eventfds);

struct IrqIndex {
    pci::IrqInfo info;
    bool no_resize = false; // vectors can be added only by turning the index off before
};
// From the answer to VFIO_DEVICE_GET_IRQ_INFO. Errors: protocol.
Result<IrqIndex> parse_irq(std::span<const std::byte> answer, pci::Irq index);

// The interrupts of one device that reach a process: INTx, MSI or MSI-X, one of them at a time. Thread-safe.
class Interrupts {
  public:
    // DEVICE must stay open for as long as this is used.
    Interrupts(Kernel& kernel, int device, const std::array<IrqIndex, pci::irq_count>& indexes)
        : kernel_(kernel), device_(device), indexes_(indexes) {}

    // As pci::Function::set_irqs and mask_irq. Errors beside theirs: no_space where the machine has fewer
    // vectors left, not_supported for masking MSI or MSI-X.
    Result<> set(pci::Irq index, uint32_t first, std::span<const int> eventfds);
    Result<> mask(pci::Irq index, uint32_t vector, bool masked);
    Result<> turn_off();

  private:
    Result<> turn_off_locked(std::vector<UniqueFd>* were = nullptr); // WERE: what was set up
    Result<> assign(pci::Irq index, uint32_t first, std::span<const int> eventfds);
    Result<> grow(pci::Irq index, uint32_t first, std::span<const int> eventfds);

    Kernel& kernel_;
    const int device_;
    const std::array<IrqIndex, pci::irq_count> indexes_;
    std::mutex mutex_;
    std::optional<pci::Irq> active_;
    std::vector<UniqueFd> vectors_; // of the active index: what the kernel has set up, some without eventfd
};

} // namespace lanepool::vfio
