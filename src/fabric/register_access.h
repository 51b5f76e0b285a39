// SPDX-License-Identifier: Apache-2.0
//
// An access may cover a part of a register, several registers, or end in the middle of one: a client is free
// to split and merge. These functions see such an access from one register of a block. OFFSETs are in the
// block.
#pragma once

#include "base/endian.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

namespace lanepool::fabric {

struct BlockWrite {
    uint64_t offset_bytes = 0;
    std::span<const std::byte> data;

    uint64_t end() const { return offset_bytes + data.size(); }
    bool touches(uint64_t first, uint64_t size_bytes) const {
        return offset_bytes < first + size_bytes && first < end();
    }
};

// Puts what WRITE has of the SIZE bytes at FIRST into BLOCK, the image of the whole block.
inline void overlay(std::span<std::byte> block, uint64_t first, uint64_t size_bytes,
                    const BlockWrite& write) {
    const uint64_t from = std::max(first, write.offset_bytes);
    const uint64_t to = std::min({first + size_bytes, write.end(), uint64_t{block.size()}});
    if (from < to)
        std::memcpy(block.data() + from, write.data.data() + (from - write.offset_bytes), to - from);
}

// The register at FIRST as written, with zeroes where WRITE does not reach: for registers in which writing 1
// does something to a bit.
template <class T>
T written_bits(uint64_t first, const BlockWrite& write) {
    T value = 0;
    for (size_t i = 0; i < sizeof(T); ++i) {
        const uint64_t at = first + i;
        if (at >= write.offset_bytes && at < write.end())
            value = static_cast<T>(value | static_cast<T>(write.data[at - write.offset_bytes]) << (8 * i));
    }
    return value;
}

// The register at FIRST, when the access writes all of it: for registers in which a write is a command.
template <class T>
std::optional<T> written_whole(uint64_t first, const BlockWrite& write) {
    if (first < write.offset_bytes || first + sizeof(T) > write.end()) return std::nullopt;
    return written_bits<T>(first, write);
}

// Reads from the image of a block; what lies behind its end reads zero.
inline void read_image(std::span<const std::byte> block, uint64_t offset_bytes, std::span<std::byte> data) {
    std::ranges::fill(data, std::byte{0});
    if (offset_bytes >= block.size()) return;
    std::memcpy(data.data(), block.data() + offset_bytes,
                std::min<uint64_t>(data.size(), block.size() - offset_bytes));
}

template <class Block>
std::span<const std::byte> image(const Block& block) {
    return std::as_bytes(std::span(&block, 1));
}
template <class Block>
std::span<std::byte> writable_image(Block& block) {
    return std::as_writable_bytes(std::span(&block, 1));
}

} // namespace lanepool::fabric
