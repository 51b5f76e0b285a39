// SPDX-License-Identifier: Apache-2.0
//
// The DMA engine as a function that vfio_user::Server shows. All calls on one thread, that of the poller.
#pragma once

#include "device_model/bar_memory.h"
#include "device_model/config_space.h"
#include "device_model/guest_memory.h"
#include "device_model/poller.h"
#include "dma_model/engine.h"
#include "vfio_user/handler.h"

#include <array>
#include <memory>
#include <vector>

namespace lanepool::dma_model {

class Function final : public vfio_user::Handler, public device_model::Polled {
  public:
    // SERIAL_NUMBER is shown in configuration space.
    static Result<std::unique_ptr<Function>> create(uint64_t serial_number);

    // device_model::Polled
    bool poll() override;
    void tick() override { look(); }
    bool needs_polling() const override { return client_ && !hung_; }
    bool waits() const override { return false; }

    // Fault injection: a hung engine does nothing, and answers no reset.
    void set_hung(bool hung);
    bool hung() const { return hung_; }

    const EngineStats& stats() const { return engine_.stats(); }
    uint64_t interrupts() const { return interrupts_; }
    uint32_t status() const { return status_; }
    EngineError error() const { return error_; }
    size_t dma_regions() const { return memory_.size(); }

    // vfio_user::Handler
    const pci::RegionInfo& region(pci::Region index) const override;
    const pci::IrqInfo& irq(pci::Irq index) const override;
    void connected(vfio_user::Client& client) override { client_ = &client; }
    void disconnected() override;
    void read(pci::Region region, uint64_t offset_bytes, size_t size_bytes,
              vfio_user::Reply<std::vector<std::byte>> reply) override;
    void write(pci::Region region, uint64_t offset_bytes, std::span<const std::byte> data,
               vfio_user::Reply<void> reply) override;
    Result<std::vector<pci::Extent>> memory(pci::Region region, uint64_t offset_bytes,
                                            uint64_t size_bytes) override;
    void map_dma(vfio_user::DmaMap map, vfio_user::Reply<void> reply) override;
    void unmap_dma(Range<Iova> range, vfio_user::Reply<void> reply) override;
    void set_irqs(pci::Irq index, uint32_t first, std::vector<UniqueFd> eventfds,
                  vfio_user::Reply<void> reply) override;
    void mask_irq(pci::Irq index, uint32_t vector, bool masked, vfio_user::Reply<void> reply) override;
    void reset(vfio_user::Reply<void> reply) override;

  private:
    Function(device_model::BarMemory bar, uint64_t serial_number);
    bool look();
    void control_written(uint32_t value);
    void start();
    void fail_with(EngineError error);
    void done(bool signal);
    void show();
    void initialise_registers();
    void renew_bar();
    void function_reset();

    std::array<pci::RegionInfo, pci::region_count> regions_;
    std::array<pci::IrqInfo, pci::irq_count> irqs_;
    device_model::ConfigSpace config_;
    device_model::BarMemory bar_;
    device_model::GuestMemory memory_;
    Engine engine_;
    vfio_user::Client* client_ = nullptr;
    UniqueFd vector_;
    uint64_t interrupts_ = 0;

    uint32_t control_ = 0; // as it was last acted on
    uint32_t status_ = 0;
    EngineError error_ = EngineError::none;
    bool hung_ = false;
    std::vector<vfio_user::Reply<void>> hung_replies_;
};

} // namespace lanepool::dma_model
