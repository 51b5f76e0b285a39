// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "fabric/doorbells.h"
#include "fabric/events.h"
#include "fabric/options.h"
#include "fabric/partition_control.h"
#include "ntb/switchtec.h"

#include <cstdint>
#include <span>

namespace lanepool::fabric {

// What a partition's registers show of the rest of the switch.
class GasWorld {
  public:
    virtual ~GasWorld() = default;
    // The control block of PARTITION, which exists.
    virtual PartitionControl& control(unsigned partition) = 0;
    virtual bool link_up(unsigned partition) const = 0;
    virtual void interrupt(unsigned vector) = 0;
};

// BAR 0 of one NT endpoint: finds the block that an access falls into. Blocks of other partitions that this
// one has no business in read zero and ignore writes.
class Gas {
  public:
    Gas(unsigned partition, unsigned partitions, PartitionPolicy policy, Doorbells& doorbells,
        GasWorld& world);

    void reset();
    // The access must lie in the BAR; it may span blocks.
    void read(uint64_t offset_bytes, std::span<std::byte> data);
    void write(uint64_t offset_bytes, std::span<const std::byte> data);
    // The link of PARTITION went up or down.
    void link_changed(unsigned partition);

  private:
    void read_block(uint64_t offset_bytes, std::span<std::byte> data);
    void write_block(uint64_t offset_bytes, std::span<const std::byte> data);
    void read_part_cfg(unsigned partition, uint64_t offset_bytes, std::span<std::byte> data) const;
    void write_part_cfg(unsigned partition, uint64_t offset_bytes, std::span<const std::byte> data);
    void read_pff(unsigned index, uint64_t offset_bytes, std::span<std::byte> data) const;
    void write_pff(unsigned index, uint64_t offset_bytes, std::span<const std::byte> data);
    void write_mrpc(uint64_t offset_bytes, std::span<const std::byte> data);
    bool may_control(unsigned partition) const;

    unsigned partition_;
    unsigned partitions_;
    PartitionPolicy policy_;
    Doorbells& doorbells_;
    GasWorld& world_;
    ntb::switchtec::Mrpc mrpc_{};
    ntb::switchtec::SysInfo sys_info_{};
    ntb::switchtec::NtbInfo ntb_info_{};
    Events events_;
};

} // namespace lanepool::fabric
