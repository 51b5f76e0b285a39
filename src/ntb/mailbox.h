// SPDX-License-Identifier: Apache-2.0
//
// The memory in which two hosts' channels meet. Each host exports one mailbox area for each partition, at an
// address that all know; the host of that partition writes there, and only there: nobody ever reads over the
// fabric. An area is a header page and a ring.
//
// A header's writer says who it is (`incarnation`, another one after each restart of its side), whom it knows
// (`acknowledged`: the incarnation of the area's owner that its words are for), how far it has written into
// this area's ring (`head`), and how far it has read the ring that the owner writes into the writer's own
// memory (`tail`). A session is a pair of incarnations, and up for a side when the other has acknowledged its
// own; both rings begin anew with it.
//
// Nothing here is larger than one access of 4 bytes: a host whose adapter is a card may be one whose kernel
// or bridge does larger ones in pieces. What has more bytes is sealed: `seal` is zero while it changes.
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
    // One access of 4 bytes at an aligned offset; seen after all that was written before.
    virtual Result<> store32(uint64_t offset_bytes, uint32_t value) = 0;
};

namespace mailbox {
inline constexpr uint64_t area_bytes = 64 * 1024;
inline constexpr uint64_t ring_offset = 4096;
inline constexpr uint64_t ring_bytes = area_bytes - ring_offset;
// Where the counts of a session begin: so that their lower halves wrap in every long session, not only in the
// longest. At the beginning of the ring.
inline constexpr uint64_t first_count = ((uint64_t{1} << 32) / ring_bytes - 16) * ring_bytes;
// "lanepo", and in the top 16 bits the version of what is said here, in ring.h and channel_message.h.
inline constexpr uint64_t signature = 0x0002'6f70'656e'616c;
// Where each host exports its areas, in the order of partitions: below every other export, above what
// platforms use for legacy devices.
inline constexpr BusAddress areas_address{uint64_t{1} << 30};

// Offsets of the header's fields of 64 bits, and of those of 32: of head and tail the lower halves, which
// differ from those before by less than the size of a ring.
enum class LongField : uint64_t { magic = 0, incarnation = 8, acknowledged = 16, wake = 24 };
enum class Field : uint64_t { seal = 32, heartbeat = 36, head = 40, tail = 44 };

inline Result<> store(RemoteMemory& area, Field field, uint32_t value) {
    return area.store32(static_cast<uint64_t>(field), value);
}
inline Result<> store(RemoteMemory& area, LongField field, uint64_t value) {
    TRY(area.store32(static_cast<uint64_t>(field), static_cast<uint32_t>(value)));
    return area.store32(static_cast<uint64_t>(field) + 4, static_cast<uint32_t>(value >> 32));
}

// What a session is made of.
struct Identity {
    uint64_t incarnation = 0;
    uint64_t acknowledged = 0;
    uint64_t wake = 0; // bus address of the writer's event, 0: send a message
};
uint32_t seal(const Identity& identity); // never zero
// Writes it, and the signature; then it is valid.
Result<> store(RemoteMemory& area, const Identity& identity);
} // namespace mailbox

// What a peer has written into our area for it. Nothing of it is checked, but that it belongs together.
struct MailboxView : mailbox::Identity {
    uint32_t heartbeat = 0;
    uint32_t head = 0;
    uint32_t tail = 0;
};

// Nothing when there is no header, or it changed while it was read: look again later. AREA is area_bytes long
// and 8-byte aligned.
std::optional<MailboxView> read_mailbox(std::span<std::byte> area);

} // namespace lanepool::ntb
