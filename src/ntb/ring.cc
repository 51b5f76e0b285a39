// SPDX-License-Identifier: Apache-2.0
#include "ntb/ring.h"

#include <algorithm>
#include <cstring>

namespace lanepool::ntb {

using mailbox::ring_bytes;

namespace {
constexpr uint64_t padded(uint64_t size_bytes) { return (size_bytes + 7) & ~uint64_t{7}; }
constexpr uint64_t footprint(uint64_t record_bytes) { return sizeof(RecordHeader) + padded(record_bytes); }
static_assert(ring_bytes % 8 == 0 && footprint(max_record_bytes) * 2 <= ring_bytes);

// The first count from BEFORE on whose lower half is LOWER.
uint64_t following(uint64_t before, uint32_t lower) {
    return before + static_cast<uint32_t>(lower - static_cast<uint32_t>(before));
}

// Copies out of memory that somebody else may be writing: each byte is read once, and the compiler may not
// read it again later.
void copy_out(std::span<const std::byte> ring, uint64_t position, std::span<std::byte> to) {
    if (to.empty()) return;
    const uint64_t at = position % ring_bytes;
    const size_t first = std::min<size_t>(to.size(), ring_bytes - at);
    std::memcpy(to.data(), ring.data() + at, first);
    if (first < to.size()) std::memcpy(to.data() + first, ring.data(), to.size() - first);
    asm volatile("" ::: "memory");
}
} // namespace

uint32_t record_checksum(uint64_t session, uint64_t position, std::span<const std::byte> record) {
    // Not against malice, who writes records can write checksums: a multiply-and-shift mix is enough.
    constexpr uint64_t factor = 0x9e37'79b9'7f4a'7c15;
    uint64_t sum = session;
    const auto mix = [&](uint64_t word) {
        sum = (sum ^ word) * factor;
        sum ^= sum >> 29;
    };
    mix(position);
    mix(record.size());
    size_t i = 0;
    for (; i + 8 <= record.size(); i += 8) {
        uint64_t word;
        std::memcpy(&word, record.data() + i, 8);
        mix(word);
    }
    uint64_t rest = 0;
    if (i < record.size()) std::memcpy(&rest, record.data() + i, record.size() - i);
    mix(rest);
    return static_cast<uint32_t>(sum >> 32);
}

Result<> RingWriter::consumed(uint32_t told) {
    const uint64_t tail = following(tail_, told);
    if (tail > head_)
        return fail(Errc::protocol, "the reader of a ring says that it has read {} bytes, after {} of {}",
                    tail, tail_, head_);
    tail_ = tail;
    return {};
}

Result<> RingWriter::copy(RemoteMemory& remote, uint64_t position, std::span<const std::byte> data) const {
    const uint64_t at = position % ring_bytes;
    const size_t first = std::min<size_t>(data.size(), ring_bytes - at);
    TRY(remote.write(mailbox::ring_offset + at, data.first(first)));
    if (first < data.size()) TRY(remote.write(mailbox::ring_offset, data.subspan(first)));
    return {};
}

Result<bool> RingWriter::write(RemoteMemory& remote, std::span<const std::byte> record) {
    if (record.size() > max_record_bytes)
        return fail(Errc::invalid_argument, "a record of {} bytes, at most {} can go", record.size(),
                    max_record_bytes);
    if (footprint(record.size()) > ring_bytes - (head_ - tail_)) return false;
    RecordHeader header;
    header.position = head_;
    header.size_bytes = static_cast<uint32_t>(record.size());
    header.checksum = record_checksum(session_, head_, record);
    TRY(copy(remote, head_, std::as_bytes(std::span(&header, 1))));
    TRY(copy(remote, head_ + sizeof header, record));
    head_ += footprint(record.size());
    return true;
}

Result<std::optional<std::vector<std::byte>>> RingReader::read(std::span<const std::byte> ring,
                                                               uint32_t told) {
    const uint64_t head = following(tail_, told);
    if (head == tail_) return std::nullopt;
    if (head - tail_ > ring_bytes || head % 8 != 0 || head - tail_ < sizeof(RecordHeader))
        return fail(Errc::protocol,
                    "the writer of a ring of {} bytes says that it has written {}, {} of them are read",
                    ring_bytes, head, tail_);
    RecordHeader header;
    copy_out(ring, tail_, std::as_writable_bytes(std::span(&header, 1)));
    const uint64_t size_bytes = header.size_bytes;
    if (header.position != tail_ || size_bytes > max_record_bytes || footprint(size_bytes) > head - tail_)
        return fail(Errc::protocol, "a ring has a record of {} bytes for position {} at position {} of {}",
                    size_bytes, uint64_t{header.position}, tail_, head);
    std::vector<std::byte> record(size_bytes);
    copy_out(ring, tail_ + sizeof header, record);
    if (record_checksum(session_, tail_, record) != header.checksum)
        return fail(Errc::protocol,
                    "a record of {} bytes at position {} of a ring does not match its checksum", size_bytes,
                    tail_);
    tail_ += footprint(size_bytes);
    return record;
}

} // namespace lanepool::ntb
