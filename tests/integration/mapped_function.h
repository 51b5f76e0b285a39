// SPDX-License-Identifier: Apache-2.0
//
// For tests: a function whose BAR0 is used by its memory alone, as by a program that has pointers to it.
#pragma once

#include "device_model/bar_memory.h"
#include "pci/function.h"

#include <gtest/gtest.h>

namespace lanepool::integration {

class MappedFunction final : public pci::Function {
  public:
    explicit MappedFunction(std::unique_ptr<pci::Function> function) : function_(std::move(function)) {
        map();
    }

    const pci::RegionInfo& region(pci::Region index) const override { return function_->region(index); }
    const pci::IrqInfo& irq(pci::Irq index) const override { return function_->irq(index); }
    bool can_reset() const override { return function_->can_reset(); }
    Result<> read(pci::Region region, uint64_t offset, std::span<std::byte> data) override {
        if (region != pci::Region::bar0) return function_->read(region, offset, data);
        for (size_t i = 0; i < data.size(); i += 4) {
            const uint32_t word = device_model::load_word(bar_.data() + offset + i);
            std::memcpy(data.data() + i, &word, 4);
        }
        return {};
    }
    Result<> write(pci::Region region, uint64_t offset, std::span<const std::byte> data) override {
        if (region != pci::Region::bar0) return function_->write(region, offset, data);
        for (size_t i = 0; i < data.size(); i += 4) {
            uint32_t word;
            std::memcpy(&word, data.data() + i, 4);
            device_model::store_word(bar_.data() + offset + i, word);
        }
        return {};
    }
    Result<std::vector<pci::Extent>> memory(pci::Region region, uint64_t offset, uint64_t size) override {
        return function_->memory(region, offset, size);
    }
    Result<UniqueFd> event(pci::Region region, uint64_t offset) override {
        return function_->event(region, offset);
    }
    Result<pci::DmaMapping> map_dma(Range<Iova> range, const MemoryRef& memory, Access access) override {
        return function_->map_dma(range, memory, access);
    }
    Result<pci::DmaMapping> map_dma(Range<Iova> range, std::shared_ptr<pci::DmaTarget> target,
                                    Access access) override {
        return function_->map_dma(range, std::move(target), access);
    }
    Result<pci::DmaMapping> map_dma_event(Iova address, const UniqueFd& eventfd) override {
        return function_->map_dma_event(address, eventfd);
    }
    Result<> unmap_dma(Range<Iova> range) override { return function_->unmap_dma(range); }
    Result<> set_irqs(pci::Irq index, uint32_t first, std::span<const int> eventfds) override {
        return function_->set_irqs(index, first, eventfds);
    }
    Result<> mask_irq(pci::Irq index, uint32_t vector, bool masked) override {
        return function_->mask_irq(index, vector, masked);
    }
    Result<> reset() override {
        TRY(function_->reset());
        map();
        return {};
    }
    bool fresh_memory_on_reset() const override { return function_->fresh_memory_on_reset(); }
    void on_disconnect(std::function<void()> callback) override {
        function_->on_disconnect(std::move(callback));
    }

  private:
    void map() {
        const uint64_t size = function_->region(pci::Region::bar0).size_bytes;
        const auto extents = function_->memory(pci::Region::bar0, 0, size).value();
        ASSERT_EQ(extents.size(), 1u);
        ASSERT_EQ(extents[0].memory.size_bytes, size) << "BAR0 cannot be mapped as a whole";
        bar_ = Mapping::create(extents[0].memory).value();
    }

    std::unique_ptr<pci::Function> function_;
    Mapping bar_;
};

} // namespace lanepool::integration
