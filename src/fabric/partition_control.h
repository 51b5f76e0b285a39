// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "fabric/options.h"
#include "fabric/windows.h"
#include "ntb/switchtec.h"

#include <bitset>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

namespace lanepool::fabric {

// The NTB control block of one partition: registers that are changed under a lock and take effect together,
// by ControlOp::config. Who may access it at all is decided before (gas.h).
class PartitionControl {
  public:
    // TARGETS: the partitions that windows may lead to, by bit. LUT_ENTRIES: as SwitchOptions.
    PartitionControl(const WindowBars& bars, uint64_t targets, unsigned lut_entries);

    // READER and WRITER are the partitions that access it. OFFSET is in the block.
    void read(unsigned reader, uint64_t offset_bytes, std::span<std::byte> data) const;
    void write(unsigned writer, uint64_t offset_bytes, std::span<const std::byte> data);

    // Initial state: no windows, no requesters, not locked.
    void reset();
    // Partition HOLDER has gone or was reset: what it was changing is forgotten.
    void release(unsigned holder);

    const Windows& windows() const { return windows_; }
    // Whether a packet of ID may pass.
    bool lists(pci::RequesterId id) const { return requesters_[id.value]; }

  private:
    void write_registers(uint64_t offset_bytes, std::span<const std::byte> data);
    void operate(unsigned writer, ntb::switchtec::ControlOp op);
    bool configure();
    std::optional<uint16_t> configure_requesters(std::bitset<65536>& ids) const;

    WindowBars bars_;
    uint64_t targets_;
    unsigned lut_entries_;
    std::optional<unsigned> holder_;
    ntb::switchtec::ControlBlock registers_{}; // as written
    ntb::switchtec::ControlBlock in_force_{};  // as last configured
    Windows windows_;
    std::bitset<65536> requesters_;
};

} // namespace lanepool::fabric
