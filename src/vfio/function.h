// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "pci/function.h"
#include "vfio/departure.h"
#include "vfio/groups.h"
#include "vfio/interrupts.h"
#include "vfio/regions.h"

#include <array>
#include <memory>
#include <optional>

namespace lanepool::vfio {

// What open() gives (open.h).
class KernelFunction final : public pci::Function {
  public:
    // KERNEL and GROUPS must outlive the function.
    static Result<std::unique_ptr<KernelFunction>> open(Kernel& kernel, Groups& groups, const Paths& paths,
                                                        const pci::Address& address);
    ~KernelFunction() override;

    const pci::RegionInfo& region(pci::Region index) const override;
    const pci::IrqInfo& irq(pci::Irq index) const override;
    bool can_reset() const override { return resets_alone_ || resets_with_bus_; }
    bool fresh_memory_on_reset() const override { return false; }
    bool hands_out_memory() const override { return false; }
    std::vector<SharedFd> lifelines() const override;

    Result<> read(pci::Region region, uint64_t offset_bytes, std::span<std::byte> data) override;
    Result<> write(pci::Region region, uint64_t offset_bytes, std::span<const std::byte> data) override;
    Result<std::vector<pci::Extent>> memory(pci::Region region, uint64_t offset_bytes,
                                            uint64_t size_bytes) override;
    Result<UniqueFd> event(pci::Region region, uint64_t offset_bytes) override;

    Result<pci::DmaMapping> map_dma(Range<Iova> range, const MemoryRef& memory, Access access) override;
    Result<pci::DmaMapping> map_dma(Range<Iova> range, std::shared_ptr<pci::DmaTarget> target,
                                    Access access) override;
    Result<pci::DmaMapping> map_dma_event(Iova address, const UniqueFd& eventfd) override;
    Result<> unmap_dma(Range<Iova> range) override;

    Result<> set_irqs(pci::Irq index, uint32_t first, std::span<const int> eventfds) override;
    Result<> mask_irq(pci::Irq index, uint32_t vector, bool masked) override;
    Result<> reset() override;
    void on_disconnect(std::function<void()> callback) override;

  private:
    KernelFunction(Kernel& kernel, const Groups& groups, const pci::Address& address, Membership membership)
        : kernel_(kernel), groups_(groups), address_(address), membership_(std::move(membership)) {}
    Result<> look_around();
    Result<> watch_departure(const std::array<IrqIndex, pci::irq_count>& indexes);
    Result<> check(pci::Region region, uint64_t offset_bytes, uint64_t size_bytes) const;
    bool dead();
    Error explain(int error, pci::Region region, uint64_t offset_bytes, const char* what);
    Result<> reset_device();
    Result<> clear_bus_master();

    Kernel& kernel_;
    const Groups& groups_;
    const pci::Address address_;
    Membership membership_; // goes after the device's descriptor
    SharedFd device_;
    bool resets_alone_ = false;
    bool resets_with_bus_ = false;
    std::array<RegionPlace, pci::region_count> regions_;
    std::array<pci::IrqInfo, pci::irq_count> irqs_;
    std::optional<Interrupts> interrupts_;
    std::unique_ptr<Departure> departure_;
};

} // namespace lanepool::vfio
