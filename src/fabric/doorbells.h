// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ntb/switchtec.h"

#include <cstdint>
#include <span>

namespace lanepool::fabric {

// What the doorbell and message block of a partition causes elsewhere.
class DoorbellEffects {
  public:
    virtual ~DoorbellEffects() = default;
    // Rings BITS at every other partition that this one may reach.
    virtual void ring(uint64_t bits) = 0;
    // Hands MESSAGE to register INDEX of PARTITION.
    virtual ntb::switchtec::OutStatus send(unsigned partition, unsigned index, uint32_t message) = 0;
    // Raises this partition's interrupt VECTOR.
    virtual void interrupt(unsigned vector) = 0;
};

// The doorbell and message block (DBMSG) of one partition; its MSI-X table is plain storage here: vectors are
// set up over the connection, and clients emulate the table.
class Doorbells {
  public:
    explicit Doorbells(DoorbellEffects& effects) : effects_(effects) { reset(); }

    void reset();
    void read(uint64_t offset_bytes, std::span<std::byte> data) const;
    void write(uint64_t offset_bytes, std::span<const std::byte> data);

    // Others ring here.
    void ring(uint64_t bits);
    // A message of partition SOURCE arrives at register INDEX; false when an earlier one is still there.
    bool receive(unsigned source, unsigned index, uint32_t message);

  private:
    void write_masks_and_maps(uint64_t offset_bytes, std::span<const std::byte> data);
    void send(unsigned index, uint32_t message);
    void raise(uint64_t bits);
    uint64_t pending() const;

    DoorbellEffects& effects_;
    ntb::switchtec::MessageBlock registers_{};
};

} // namespace lanepool::fabric
