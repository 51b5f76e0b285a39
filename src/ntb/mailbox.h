// SPDX-License-Identifier: Apache-2.0
//
// The memory in which two hosts' channels meet. Each host exports one mailbox area for each partition, at an
// address that all know; the host of that partition writes there, and only there: nobody ever reads over the
// fabric. An area is a header page and a ring.
//
// A header's writer says who it is (`incarnation`, another one after each restart of its side), whom it knows
// (`acknowledged`: the incarnation of the area's owner that its words are for; zero while it changes them),
// how far it has written into this area's ring (`head`), and how far it has read the ring that the owner
// writes into the writer's own memory (`tail`). A session is a pair of incarnations, and up for a side when
// the other has acknowledged its own; both rings begin at zero with it.
#pragma once

#include "base/address.h"
#include "base/result.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace lanepool::ntb {

// Every write to the other side goes through this: memory behind a window, or registers of a BAR.
class RemoteMemory {
  public:
    virtual ~RemoteMemory() = default;
    // Writes whose order among each other does not matter.
    virtual Result<> write(uint64_t offset_bytes, std::span<const std::byte> data) = 0;
    // One access of 8 bytes at an aligned offset; seen after all that was written before.
    virtual Result<> store64(uint64_t offset_bytes, uint64_t value) = 0;
};

namespace mailbox {
inline constexpr uint64_t area_bytes = 64 * 1024;
inline constexpr uint64_t ring_offset = 4096;
inline constexpr uint64_t ring_bytes = area_bytes - ring_offset;
// "lanepo", and in the top 16 bits the version of what is said here, in ring.h and channel_message.h.
inline constexpr uint64_t signature = 0x0001'6f70'656e'616c;
// Where each host exports its areas, in the order of partitions: below every other export, above what
// platforms use for legacy devices.
inline constexpr BusAddress areas_address{uint64_t{1} << 30};

// Offsets of the header's 64-bit fields.
enum class Field : uint64_t {
    magic = 0,
    incarnation = 8,
    acknowledged = 16,
    wake = 24,
    heartbeat = 32,
    head = 40,
    tail = 48
};

inline Result<> store(RemoteMemory& area, Field field, uint64_t value) {
    return area.store64(static_cast<uint64_t>(field), value);
}
} // namespace mailbox

// What a peer has written into our area for it, each field read once. Nothing of it is checked.
struct MailboxView {
    uint64_t incarnation = 0;
    uint64_t acknowledged = 0;
    uint64_t wake = 0; // bus address of the peer's event, 0: send a message
    uint64_t heartbeat = 0;
    uint64_t head = 0;
    uint64_t tail = 0;
};

// Nothing when there is no header, or it changed while it was read: look again later. AREA is area_bytes long
// and 8-byte aligned.
std::optional<MailboxView> read_mailbox(std::span<std::byte> area);

} // namespace lanepool::ntb
