// SPDX-License-Identifier: Apache-2.0
//
// The switch's message registers: four out, four in, shared by all partitions. An incoming register holds one
// message until it is taken; whoever sends to one that is occupied tries the next.
#pragma once

#include "ntb/adapter.h"
#include "ntb/registers.h"

#include <functional>
#include <mutex>

namespace lanepool::ntb {

// send() may be called from any thread; the others from one at a time.
class Messages {
  public:
    Messages(Registers registers, Partition own) : registers_(registers), own_(own) {}

    // Drops what an earlier owner was sent and lets new messages interrupt by VECTOR.
    Result<> set_up(uint8_t vector);
    // As Adapter::send_message.
    Result<> send(Partition partition, uint32_t message);
    // Takes what has arrived.
    Result<> take(const std::function<void(Partition from, uint32_t message)>& deliver) const;

  private:
    uint64_t at(uint64_t offset_bytes) const;

    Registers registers_;
    Partition own_;
    std::mutex send_mutex_;
    int mapped_ = -1; // the partition to which the outgoing registers lead
};

} // namespace lanepool::ntb
