// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "fabric/client_requests.h"
#include "fabric/counters.h"
#include "fabric/dma_table.h"
#include "fabric/doorbells.h"
#include "fabric/endpoint_config.h"
#include "fabric/gas.h"
#include "fabric/interrupts.h"
#include "fabric/partition_control.h"
#include "fabric/window_access.h"
#include "vfio_user/handler.h"

#include <array>
#include <memory>

namespace lanepool::fabric {

class Switch;

// One port of the switch: the NT endpoint that its client sees as a PCI function. Used on the loop's thread
// only.
class Port final : public vfio_user::Handler, private DoorbellEffects, private GasWorld {
  public:
    Port(Switch& fabric, unsigned partition, const WindowBars& bars, PartitionPolicy policy);

    unsigned partition() const { return partition_; }
    // There is a client, and nobody has taken the link down.
    bool link_up() const { return client_ != nullptr && link_enabled_; }
    bool link_enabled() const { return link_enabled_; }
    // Takes the link down (or lets it up again) for administration. Everybody is told when it changes.
    void enable_link(bool enabled);

    bool bus_master() const { return config_.bus_master(); }
    vfio_user::Client* client() const { return client_; }
    const DmaTable& dma() const { return dma_; }
    PartitionControl& control() { return control_; }
    const PartitionControl& control() const { return control_; }
    Doorbells& doorbells() { return doorbells_; }
    PortCounters& counters() { return counters_; }
    const PortCounters& counters() const { return counters_; }
    // The way to the client's memory by messages; null: there is no client.
    ClientRequests* requests() const { return requests_.get(); }
    // Whether the client is QEMU, and so this port a card of a whole machine. Then it answers messages for
    // addresses that it has not mapped: it says nothing of what its guest maps without a descriptor
    // (registers of another device), but its guest's IOMMU lets such accesses pass or refuses them. And the
    // descriptors that it gives are of all the machine's memory: nobody else may have them.
    bool whole_machine() const { return client_ && !client_->speaks_lanepool(); }
    // The link of PARTITION has changed.
    void link_changed(unsigned partition) { gas_.link_changed(partition); }

    // vfio_user::Handler
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
    Result<UniqueFd> event(pci::Region region, uint64_t offset_bytes) override;
    void map_dma(vfio_user::DmaMap map, vfio_user::Reply<void> reply) override;
    void unmap_dma(Range<Iova> range, vfio_user::Reply<void> reply) override;
    void set_irqs(pci::Irq index, uint32_t first, std::vector<UniqueFd> eventfds,
                  vfio_user::Reply<void> reply) override;
    void mask_irq(pci::Irq index, uint32_t vector, bool masked, vfio_user::Reply<void> reply) override;
    void reset(vfio_user::Reply<void> reply) override;

  private:
    // DoorbellEffects, GasWorld
    void ring(uint64_t bits) override;
    ntb::switchtec::OutStatus send(unsigned partition, unsigned index, uint32_t message) override;
    void interrupt(unsigned vector) override;
    PartitionControl& control(unsigned partition) override;
    bool link_up(unsigned partition) const override;

    void reset_function();
    // Whether SIZE bytes at OFFSET lie in the region.
    Result<> check(pci::Region region, uint64_t offset_bytes, uint64_t size_bytes) const;
    bool is_window(pci::Region region) const;

    Switch& fabric_;
    const unsigned partition_;
    const PartitionPolicy policy_;
    std::array<pci::RegionInfo, pci::region_count> regions_;
    vfio_user::Client* client_ = nullptr;
    bool link_enabled_ = true;
    EndpointConfig config_;
    PartitionControl control_;
    Doorbells doorbells_;
    Gas gas_;
    Interrupts interrupts_;
    DmaTable dma_;
    WindowAccess windows_;
    PortCounters counters_;
    std::unique_ptr<ClientRequests> requests_;
};

} // namespace lanepool::fabric
