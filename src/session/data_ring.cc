// SPDX-License-Identifier: Apache-2.0
#include "session/data_ring.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>

namespace lanepool::session {

namespace {
constexpr uint64_t capacity = std::tuple_size_v<decltype(DataRing::data)>;
constexpr uint64_t header_bytes = 8;
constexpr uint64_t record_bytes(uint64_t size) { return header_bytes + (size + 7) / 8 * 8; }

Result<DataRing*> ring_in(std::span<std::byte> memory) {
    if (memory.size() != sizeof(DataRing) || reinterpret_cast<uintptr_t>(memory.data()) % alignof(DataRing))
        return fail(Errc::invalid_argument, "a data ring of {} bytes at {}: it has {}, from a page on",
                    memory.size(), static_cast<const void*>(memory.data()), sizeof(DataRing));
    return reinterpret_cast<DataRing*>(memory.data());
}

std::atomic_ref<uint64_t> header_at(DataRing& ring, uint64_t position) {
    return std::atomic_ref(*reinterpret_cast<uint64_t*>(&ring.data[position % capacity]));
}

// The bytes from POSITION on, which may go on at the ring's start.
void copy_in(DataRing& ring, uint64_t position, std::span<const std::byte> data) {
    const uint64_t start = position % capacity;
    const auto first = static_cast<size_t>(std::min<uint64_t>(data.size(), capacity - start));
    if (first) std::memcpy(&ring.data[start], data.data(), first);
    if (first < data.size()) std::memcpy(ring.data.data(), data.data() + first, data.size() - first);
}
void copy_out(const DataRing& ring, uint64_t position, std::span<std::byte> data) {
    const uint64_t start = position % capacity;
    const auto first = static_cast<size_t>(std::min<uint64_t>(data.size(), capacity - start));
    if (first) std::memcpy(data.data(), &ring.data[start], first);
    if (first < data.size()) std::memcpy(data.data() + first, ring.data.data(), data.size() - first);
}
} // namespace

Result<DataRingWriter> DataRingWriter::create(std::span<std::byte> memory) {
    DataRingWriter writer;
    writer.ring_ = TRY(ring_in(memory));
    return writer;
}

Result<> DataRingWriter::send(std::span<const std::byte> data) {
    if (data.size() > max_data_bytes)
        return fail(Errc::out_of_range, "a message of {} bytes, at most {} can go", data.size(),
                    max_data_bytes);
    const uint64_t needed = record_bytes(data.size());
    if (needed > capacity - (produced_ - consumed_)) {
        // Only now: the receiver's word may lie on another host.
        const uint64_t consumed = std::atomic_ref(ring_->consumed).load(std::memory_order_acquire);
        if (consumed % 8 || consumed - consumed_ > produced_ - consumed_)
            return fail(Errc::protocol, "the receiver says that it has taken {} bytes of {}", consumed,
                        produced_);
        consumed_ = consumed;
        if (needed > capacity - (produced_ - consumed_))
            return fail(Errc::no_space,
                        "the receiver has not taken {} bytes that were sent before; try again "
                        "when it has",
                        produced_ - consumed_);
    }
    header_at(*ring_, produced_).store(data.size(), std::memory_order_relaxed);
    copy_in(*ring_, produced_ + header_bytes, data);
    produced_ += needed;
    std::atomic_ref(ring_->produced).store(produced_, std::memory_order_release);
    return {};
}

Result<DataRingReader> DataRingReader::create(std::span<std::byte> memory) {
    DataRingReader reader;
    reader.ring_ = TRY(ring_in(memory));
    return reader;
}

Result<std::optional<size_t>> DataRingReader::take(std::span<std::byte> buffer) {
    if (broken_) return fail(Errc::protocol, "the sender has broken its ring");
    const uint64_t produced = end_ ? *end_ : std::atomic_ref(ring_->produced).load(std::memory_order_acquire);
    if (produced == consumed_) return std::optional<size_t>();
    const uint64_t there = produced - consumed_;
    const uint64_t size = there <= capacity && there % 8 == 0
                              ? header_at(*ring_, consumed_).load(std::memory_order_relaxed)
                              : max_data_bytes + 1;
    if (size > max_data_bytes || record_bytes(size) > there) {
        broken_ = true;
        return fail(Errc::protocol, "the sender says that a message of {} bytes is among {}", size, there);
    }
    if (size > buffer.size())
        return fail(Errc::no_space, "a message of {} bytes has come, the buffer has {}", size, buffer.size());
    copy_out(*ring_, consumed_ + header_bytes, buffer.first(static_cast<size_t>(size)));
    consumed_ += record_bytes(size);
    std::atomic_ref(ring_->consumed).store(consumed_, std::memory_order_release);
    return static_cast<size_t>(size);
}

void DataRingReader::end() {
    if (!end_) end_ = std::atomic_ref(ring_->produced).load(std::memory_order_acquire);
}

} // namespace lanepool::session
