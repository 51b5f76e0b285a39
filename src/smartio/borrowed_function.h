// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ntb/adapter.h"
#include "smartio/borrower.h"
#include "smartio/client_irqs.h"
#include "smartio/client_memory.h"
#include "smartio/config_shadow.h"
#include "smartio/errands.h"
#include "smartio/guest_msix.h"
#include "smartio/loan_link.h"
#include "smartio/register_windows.h"
#include "vfio_user/handler.h"

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

namespace lanepool::smartio {

// A lent device as the borrower's client sees it: config space from the shadow, registers through windows,
// memory and interrupts handed to the lender. On the loop's thread.
class BorrowedFunction final : public vfio_user::Handler {
  public:
    struct Events {
        std::function<void(bool connected)> client_changed;
        std::function<void()> driver_ready;
    };
    BorrowedFunction(Errands& errands, ntb::Adapter& adapter, ntb::Partition lender, LoanLink& link,
                     const Opened& opened, ConfigShadow shadow,
                     std::shared_ptr<const RegisterWindows> windows, size_t max_memory_maps, Events events);

    // Tells the lender that nobody uses the device any more, then withdraws what the client had exported,
    // which happens in any case. The answer is the lender's.
    void close(std::function<void(Result<>)> done);
    void fill(BorrowerStats& stats) const;
    // Gives up the windows; for when nobody is served any more.
    std::shared_ptr<const RegisterWindows> take_windows() { return std::move(windows_); }

    const pci::RegionInfo& region(pci::Region index) const override;
    const pci::IrqInfo& irq(pci::Irq index) const override;
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
    using Data = vfio_user::Reply<std::vector<std::byte>>;
    void describe_regions();
    // Of a BAR, for the client: without the pages of the MSI-X table that is kept here.
    std::vector<pci::Extent> mappable_memory(pci::Region region) const;
    void read_config(uint64_t offset_bytes, size_t size_bytes, Data reply);
    void read_interrupt_status(uint64_t offset_bytes, size_t size_bytes, Data reply);
    void write_config(uint64_t offset_bytes, std::span<const std::byte> data, vfio_user::Reply<void> reply);
    void reopened(Result<Opened> opened, vfio_user::Reply<void> reply);
    void check_driver();

    Errands& errands_;
    ntb::Adapter& adapter_;
    const ntb::Partition lender_;
    LoanLink& link_;
    Opened opened_;
    ConfigShadow shadow_;
    std::shared_ptr<const RegisterWindows> windows_;
    ClientMemory memory_;
    ClientIrqs irqs_;
    std::optional<GuestMsix> msix_; // where the guest sees MSI-X
    const Events events_;

    std::array<pci::RegionInfo, pci::region_count> regions_;
    std::array<pci::IrqInfo, pci::irq_count> irq_infos_;
    // Whether the client's mappings would be dead after a reset: then none are offered.
    bool client_keeps_mappings_ = true;
    bool driver_ready_ = false;
    mutable BorrowerStats counters_;
};

} // namespace lanepool::smartio
