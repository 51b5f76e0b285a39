// SPDX-License-Identifier: Apache-2.0
//
// One direction of a channel: records in a ring that lies in the reader's memory. The writer owns the head,
// the reader the tail; both are counts of bytes since the session began. Of these counts only the lower
// halves are told, the upper ones follow from what is known. Neither trusts the other: the reader copies a
// record before it looks at it, and every number is checked against what the owner of the number cannot
// change.
#pragma once

#include "base/endian.h"
#include "base/result.h"
#include "ntb/mailbox.h"

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace lanepool::ntb {

inline constexpr size_t max_record_bytes = 8192 + 64;

// In front of each record; records begin at multiples of 8.
struct RecordHeader {
    le64 position; // of this header: a record of an earlier round has another
    le32 size_bytes;
    le32 checksum; // over position, size, session and record: finds writes that a failing link lost
};
static_assert(sizeof(RecordHeader) == 16);

uint32_t record_checksum(uint64_t session, uint64_t position, std::span<const std::byte> record);

class RingWriter {
  public:
    // A new session: the ring is empty.
    void reset(uint64_t session) {
        session_ = session;
        head_ = tail_ = mailbox::first_count;
    }
    // The reader's word that it has read up to TAIL, the lower half of the count. Errors: protocol.
    Result<> consumed(uint32_t tail);
    // Whether there was room. The reader sees it when head() is stored in the header. RECORD has at most
    // max_record_bytes. Errors: what REMOTE reports.
    Result<bool> write(RemoteMemory& remote, std::span<const std::byte> record);
    uint64_t head() const { return head_; }

  private:
    Result<> copy(RemoteMemory& remote, uint64_t position, std::span<const std::byte> data) const;

    uint64_t session_ = 0;
    uint64_t head_ = 0;
    uint64_t tail_ = 0;
};

class RingReader {
  public:
    void reset(uint64_t session) {
        session_ = session;
        tail_ = mailbox::first_count;
    }
    // The next record below HEAD (the lower half of the count), if there is one; RING is mailbox::ring_bytes
    // of memory that the writer may change at any time. Errors: protocol; then the session is over.
    Result<std::optional<std::vector<std::byte>>> read(std::span<const std::byte> ring, uint32_t head);
    uint64_t tail() const { return tail_; }

  private:
    uint64_t session_ = 0;
    uint64_t tail_ = 0;
};

} // namespace lanepool::ntb
