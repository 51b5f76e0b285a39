// SPDX-License-Identifier: Apache-2.0
//
// A borrowed device as a pci::Function, so that drivers of ours run on it. What a loan does not let its
// borrower choose is not_supported: IOVAs (memory is mapped for the device by Device::map, which says where),
// resets (the lender does them, before and after the loan).
//
// A borrowed device has memory space and bus master on until it is given back: the command register is the
// borrower's own copy.
#pragma once

#include "lanepool/device.h"
#include "lanepool/session.h"
#include "pci/function.h"

#include <array>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

namespace lanepool {

class DeviceFunction final : public pci::Function {
  public:
    // Borrows FDID as Device::borrow() does.
    static Result<std::unique_ptr<DeviceFunction>> borrow(Session& session, uint64_t fdid, Sharing sharing,
                                                          std::chrono::milliseconds timeout);
    // Gives it back.
    ~DeviceFunction() override;

    Device& device() { return *device_; }

    const pci::RegionInfo& region(pci::Region index) const override;
    const pci::IrqInfo& irq(pci::Irq index) const override; // MSI-X, whichever the device has
    bool can_reset() const override { return false; }

    // BARs: by loads and stores where all of a BAR is memory, else by calls. Configuration space: its first
    // 64 bytes; writes to the command register only.
    Result<> read(pci::Region region, uint64_t offset_bytes, std::span<std::byte> data) override;
    Result<> write(pci::Region region, uint64_t offset_bytes, std::span<const std::byte> data) override;
    Result<std::vector<pci::Extent>> memory(pci::Region region, uint64_t offset_bytes,
                                            uint64_t size_bytes) override;
    Result<> set_irqs(pci::Irq index, uint32_t first, std::span<const int> eventfds) override;
    void on_disconnect(std::function<void()> callback) override;

    // not_supported:
    Result<UniqueFd> event(pci::Region region, uint64_t offset_bytes) override;
    Result<pci::DmaMapping> map_dma(Range<Iova> range, const MemoryRef& memory, Access access) override;
    Result<pci::DmaMapping> map_dma(Range<Iova> range, std::shared_ptr<pci::DmaTarget> target,
                                    Access access) override;
    Result<pci::DmaMapping> map_dma_event(Iova address, const UniqueFd& eventfd) override;
    Result<> unmap_dma(Range<Iova> range) override;
    Result<> mask_irq(pci::Irq index, uint32_t vector, bool masked) override;
    Result<> reset() override;
    bool fresh_memory_on_reset() const override { return false; }

  private:
    struct Bar {
        DeviceBar bar;
        MappedRange mapped; // all of it, or nothing
    };
    // Who wants to know that the loan is over.
    struct Watcher {
        std::mutex mutex;
        bool over = false;
        std::function<void()> callback;
    };

    DeviceFunction() = default;
    Result<> open_bars();
    Result<Bar*> bar_at(pci::Region region, uint64_t offset_bytes, uint64_t size_bytes);
    Result<> write_config(uint64_t offset_bytes, std::span<const std::byte> data);

    std::shared_ptr<Watcher> watcher_ = std::make_shared<Watcher>();
    std::optional<Device> device_;
    std::array<std::optional<Bar>, pci::bar_count> bars_; // gone before the device
    std::array<pci::RegionInfo, pci::region_count> regions_;
    std::array<pci::IrqInfo, pci::irq_count> irqs_;
    std::mutex mutex_; // of what follows
    std::array<std::byte, 64> config_{};
    std::vector<bool> vectors_; // those that signal somebody
};

} // namespace lanepool
