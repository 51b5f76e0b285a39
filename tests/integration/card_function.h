// SPDX-License-Identifier: Apache-2.0
//
// For tests: a port of the virtual switch as the kernel's VFIO would show it, a card: no eventfds behind its
// windows or for its DMA, no DMA by calls, accesses of 8 bytes in two halves.
#pragma once

#include "pci/function.h"

#include <atomic>
#include <memory>

namespace lanepool::integration {

class CardFunction final : public pci::Function {
  public:
    explicit CardFunction(std::unique_ptr<pci::Function> function, uint64_t iommu_bytes = uint64_t{1} << 48)
        : function_(std::move(function)), iommu_bytes_(iommu_bytes) {}

    const pci::RegionInfo& region(pci::Region index) const override { return function_->region(index); }
    const pci::IrqInfo& irq(pci::Irq index) const override { return function_->irq(index); }
    bool can_reset() const override { return function_->can_reset(); }
    Result<> read(pci::Region region, uint64_t offset, std::span<std::byte> data) override {
        for (size_t i = 0; i < data.size(); i += 4)
            TRY(function_->read(region, offset + i, data.subspan(i, std::min<size_t>(4, data.size() - i))));
        return {};
    }
    Result<> write(pci::Region region, uint64_t offset, std::span<const std::byte> data) override {
        for (size_t i = 0; i < data.size(); i += 4)
            TRY(function_->write(region, offset + i, data.subspan(i, std::min<size_t>(4, data.size() - i))));
        return {};
    }
    Result<std::vector<pci::Extent>> memory(pci::Region region, uint64_t offset, uint64_t size) override {
        return function_->memory(region, offset, size);
    }
    Result<UniqueFd> event(pci::Region, uint64_t) override { return no("eventfds"); }
    Result<pci::DmaMapping> map_dma(Range<Iova> range, const MemoryRef& memory, Access access) override {
        if ((range.start().value | range.size_bytes()) % 4096 != 0)
            return fail(Errc::invalid_argument, "an IOMMU maps whole pages");
        if (range.last().value >= iommu_bytes_)
            return fail(Errc::out_of_range, "the IOMMU has addresses up to {:#x}", iommu_bytes_);
        return function_->map_dma(range, memory, access);
    }
    Result<pci::DmaMapping> map_dma(Range<Iova>, std::shared_ptr<pci::DmaTarget>, Access) override {
        return no("DMA by calls");
    }
    Result<pci::DmaMapping> map_dma_event(Iova, const UniqueFd&) override { return no("eventfds"); }
    Result<> unmap_dma(Range<Iova> range) override { return function_->unmap_dma(range); }
    Result<> set_irqs(pci::Irq index, uint32_t first, std::span<const int> eventfds) override {
        return function_->set_irqs(index, first, eventfds);
    }
    Result<> mask_irq(pci::Irq index, uint32_t vector, bool masked) override {
        return function_->mask_irq(index, vector, masked);
    }
    Result<> reset() override { return function_->reset(); }
    bool fresh_memory_on_reset() const override { return false; }
    bool hands_out_memory() const override { return false; }
    void on_disconnect(std::function<void()> callback) override {
        function_->on_disconnect(std::move(callback));
    }

  private:
    static tl::unexpected<Error> no(const char* what) {
        return fail(Errc::not_supported, "the kernel's VFIO has no {}", what);
    }
    std::unique_ptr<pci::Function> function_;
    const uint64_t iommu_bytes_;
};

} // namespace lanepool::integration
