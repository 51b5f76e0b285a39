// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "fabric/translation.h"
#include "io/event_loop.h"
#include "vfio_user/handler.h"

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

namespace lanepool::fabric {

// How many reads of one port may wait for other hosts' clients.
inline constexpr size_t max_waiting_reads = 64;

// Accesses of one port's client to its window BARs that come as messages. Nothing here blocks: writes are
// acknowledged at once, reads that only another client can answer wait for it until a deadline.
class WindowAccess {
  public:
    WindowAccess(Switch& fabric, Port& source) : fabric_(fabric), source_(source) {}

    void read(unsigned slot, uint64_t offset_bytes, size_t size_bytes,
              vfio_user::Reply<std::vector<std::byte>> reply);
    void write(unsigned slot, uint64_t offset_bytes, std::span<const std::byte> data);
    // The descriptors behind a range, neighbours joined; not those of whole machines.
    Result<std::vector<pci::Extent>> memory(unsigned slot, uint64_t offset_bytes, uint64_t size_bytes);
    // The eventfd behind the 4 bytes at OFFSET.
    Result<UniqueFd> event(unsigned slot, uint64_t offset_bytes);

    // The source's client has gone: nobody waits for its reads any more.
    void drop_waiting() { waiting_.clear(); }

  private:
    // A read that waits for other clients.
    struct Waiting {
        explicit Waiting(vfio_user::Reply<std::vector<std::byte>> reply_to) : reply(std::move(reply_to)) {}
        std::vector<std::byte> data;
        size_t missing = 0; // answers
        vfio_user::Reply<std::vector<std::byte>> reply;
        io::EventLoop::Registration deadline;
    };

    bool read_in_place(const Segment& segment, std::span<std::byte> data);
    void write_segment(const Segment& segment, std::span<const std::byte> data);
    void forward_write(const Segment& segment, std::span<const std::byte> data);
    void forward_reads(std::vector<Segment> segments, std::vector<std::byte> data,
                       vfio_user::Reply<std::vector<std::byte>> reply);
    void forward_read(uint64_t id, const std::shared_ptr<Waiting>& waiting, const Segment& segment);
    void answered(uint64_t id);
    void finish(uint64_t id);

    Switch& fabric_;
    Port& source_;
    uint64_t next_id_ = 0;
    std::map<uint64_t, std::shared_ptr<Waiting>> waiting_;
};

} // namespace lanepool::fabric
