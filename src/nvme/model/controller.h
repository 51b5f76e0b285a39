// SPDX-License-Identifier: Apache-2.0
//
// An NVMe controller with one namespace, as a function that vfio_user::Server shows. All calls on one thread,
// the one of the server's loop; who owns it calls poll() there, all the time while it is busy.
#pragma once

#include "device_model/bar_memory.h"
#include "device_model/guest_memory.h"
#include "device_model/poller.h"
#include "io/clock.h"
#include "nvme/model/admin_commands.h"
#include "nvme/model/config_space.h"
#include "nvme/model/context.h"
#include "nvme/model/doorbells.h"
#include "nvme/model/io_commands.h"
#include "nvme/model/mapped_registers.h"
#include "nvme/model/registers.h"
#include "vfio_user/handler.h"

#include <list>
#include <memory>
#include <optional>
#include <vector>

namespace lanepool::nvme::model {

struct ControllerOptions {
    std::string serial; // 1 to 20 printable characters
    bool msix = true;
    // All of BAR0 is memory that the client maps, not only the doorbells: register writes are noticed by
    // polling. INTMS and INTMC cannot be (a write of 1 to a bit leaves no trace): interrupts by MSI-X or MSI
    // only, masked where these are masked.
    bool map_registers = false;
    // How long unmapping and reset wait for operations on the file that are still under way. Afterwards
    // unmapping cuts them off from the memory, and reset fails. Below the server's reply time-out.
    io::Duration drain_timeout = std::chrono::milliseconds(1500);
};

class Controller final : public vfio_user::Handler, public device_model::Polled, private Executor {
  public:
    // MEDIA and CLOCK must outlive it; nobody else polls MEDIA's file operations, and nobody does afterwards.
    static Result<std::unique_ptr<Controller>> create(const ControllerOptions& options, Media& media,
                                                      const io::Clock& clock);
    ~Controller() override;

    // One round over doorbells and finished file operations. Returns whether there was anything to do.
    bool poll() override;
    // Sets the time that poll() goes by.
    void tick() override;
    bool needs_polling() const override { return polls_queues() || polls_registers(); }
    bool waits() const override {
        return !waiting_unmaps_.empty() || waiting_reset_ || enable_wanted_ || disable_wanted_;
    }

    // Fault injection: a hung controller answers register reads and does nothing else.
    void set_hung(bool hung);
    bool hung() const { return hung_; }

    const EngineStats& stats() const { return engine_.stats(); }
    const Interrupts& interrupts() const { return interrupts_; }
    const Dma& dma() const { return dma_; }
    uint32_t csts() const { return registers_.csts(); }
    size_t io_queue_count() const { return engine_.io_queue_count(); }
    size_t commands_in_flight() const { return engine_.active_requests(); }
    size_t dma_regions() const { return memory_.size(); }
    const Identity& identity() const { return identity_; }

    // vfio_user::Handler
    const pci::RegionInfo& region(pci::Region index) const override;
    const pci::IrqInfo& irq(pci::Irq index) const override { return interrupts_.info(index); }
    void connected(vfio_user::Client& client) override;
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
    Controller(const ControllerOptions& options, Identity identity, device_model::BarMemory bar, Media& media,
               const io::Clock& clock);
    bool polls_queues() const { return engine_.running() && !hung_ && config_.may_master(); }
    bool polls_registers() const { return options_.map_registers && !hung_ && client_; }
    // Executor
    void execute(Request& request) override;
    void stopped() override { admin_.stopped(); }

    void write_bar0(uint64_t offset_bytes, std::span<const std::byte> data);
    void write_config(uint64_t offset_bytes, std::span<const std::byte> data);
    void take_mapped_writes();
    std::byte read_bar0(uint64_t offset_bytes) const;
    void configuration_written(uint32_t old_cc);
    void start_shutdown();
    void controller_reset(bool entire);
    void function_reset(bool keep_interrupts);
    void renew_bar();
    void finish_waiting();
    void update_interrupt_level();

    struct WaitingUnmap {
        std::shared_ptr<device_model::DmaRegion> region;
        vfio_user::Reply<void> reply;
        io::TimePoint deadline;
    };
    struct WaitingReset {
        vfio_user::Reply<void> reply;
        io::TimePoint deadline;
    };

    const ControllerOptions options_;
    const Identity identity_;
    Media& media_;
    const io::Clock& clock_;
    vfio_user::Client* client_ = nullptr;

    std::array<pci::RegionInfo, pci::region_count> regions_;
    device_model::ConfigSpace config_;
    Registers registers_;
    device_model::BarMemory bar_; // the doorbell page, or all of BAR0
    MappedRegisters mapped_registers_;
    std::vector<std::byte> msix_table_; // stored for who looks; vectors are set up by set_irqs
    device_model::GuestMemory memory_;
    Dma dma_;
    Doorbells doorbells_;
    Interrupts interrupts_;
    Features features_;
    Engine engine_;
    Context context_;
    AdminCommands admin_;
    IoCommands io_;

    std::list<WaitingUnmap> waiting_unmaps_;
    std::optional<WaitingReset> waiting_reset_;
    std::vector<vfio_user::Reply<void>> hung_replies_;
    bool enable_wanted_ = false;  // CC.EN is set, RDY follows when everything abandoned has ended
    bool disable_wanted_ = false; // CC.EN was cleared, RDY follows likewise
    bool hung_ = false;
};

} // namespace lanepool::nvme::model
