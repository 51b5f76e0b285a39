// SPDX-License-Identifier: Apache-2.0
//
// The messages of one who sends data interrupts: a ring of bytes in memory that the sender and the receiver
// both see, each from his own host, so there are only plain loads and stores, each field written by one side.
// Neither trusts the other: a number that the other side wrote is read once and checked against what is ours.
#pragma once

#include "base/result.h"
#include "session/protocol.h"

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace lanepool::session {

inline constexpr size_t max_data_bytes = 4096; // of one message

// Positions are counts of bytes since the ring was made; they never wrap, and are multiples of 8. The byte of
// position P is data[P % data.size()]. A message is 8 bytes with its size, and its bytes, filled up to a
// multiple of 8.
struct DataRing {
    alignas(64) uint64_t produced; // written by the sender: all before it may be read
    alignas(64) uint64_t consumed; // written by the receiver: all before it may be overwritten
    alignas(4096) std::array<std::byte, data_ring_bytes - 4096> data;
};
static_assert(sizeof(DataRing) == data_ring_bytes);
static_assert(offsetof(DataRing, produced) == 0);
static_assert(offsetof(DataRing, consumed) == 64);
static_assert(offsetof(DataRing, data) == 4096);
static_assert(std::tuple_size_v<decltype(DataRing::data)> % 8 == 0, "sizes of messages are never split");
static_assert(std::endian::native == std::endian::little, "the fields are those of the processor");

// One thread at a time.
class DataRingWriter {
  public:
    DataRingWriter() = default;
    // MEMORY, full of zeroes at first, must outlive the writer. Errors: invalid_argument (its size, or not
    // from a page boundary on).
    static Result<DataRingWriter> create(std::span<std::byte> memory);

    // Adds a message; the receiver is not told. Errors: no_space (until he has taken more), out_of_range
    // (over max_data_bytes), protocol (he has written nonsense: the ring is of no use any more).
    Result<> send(std::span<const std::byte> data);

  private:
    DataRing* ring_ = nullptr;
    uint64_t produced_ = 0;
    uint64_t consumed_ = 0; // as last read: what lies behind it cannot become less
};

// One thread at a time.
class DataRingReader {
  public:
    DataRingReader() = default;
    // As DataRingWriter::create().
    static Result<DataRingReader> create(std::span<std::byte> memory);

    // Takes the next message, if there is one, into BUFFER: its size. Errors: no_space (BUFFER is smaller;
    // the message stays), protocol (the sender has written nonsense: from then on always).
    Result<std::optional<size_t>> take(std::span<std::byte> buffer);
    // The sender may send no more: what comes from now on is not taken.
    void end();

  private:
    DataRing* ring_ = nullptr;
    uint64_t consumed_ = 0;
    std::optional<uint64_t> end_; // what had been produced at end()
    bool broken_ = false;
};

} // namespace lanepool::session
