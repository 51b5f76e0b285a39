// SPDX-License-Identifier: Apache-2.0
#include "smartio/msix_table.h"

#include <algorithm>

namespace lanepool::smartio {

namespace {
// Of an entry: address, upper address, data, vector control.
constexpr uint64_t word_bytes = 4;
constexpr uint64_t words = 4;
constexpr uint32_t address_mask = ~3u;
constexpr uint32_t mask_bit = 1;

std::byte byte_of(uint64_t value, unsigned index) { return static_cast<std::byte>(value >> (8 * index)); }
} // namespace

void MsixTable::reset() {
    std::ranges::fill(entries_, Entry{});
    enabled_ = masked_ = false;
}

uint32_t MsixTable::word(const Entry& entry, unsigned index) {
    switch (index) {
    case 0:
        return static_cast<uint32_t>(entry.address);
    case 1:
        return static_cast<uint32_t>(entry.address >> 32);
    case 2:
        return entry.data;
    default:
        return entry.masked ? mask_bit : 0;
    }
}

void MsixTable::set_word(Entry& entry, unsigned index, uint32_t value) {
    constexpr uint64_t low = 0xffffffff;
    switch (index) {
    case 0:
        entry.address = (entry.address & ~low) | (value & address_mask);
        break;
    case 1:
        entry.address = (entry.address & low) | uint64_t{value} << 32;
        break;
    case 2:
        entry.data = value;
        break;
    default:
        entry.masked = value & mask_bit;
        break;
    }
}

void MsixTable::read_table(uint64_t offset_bytes, std::span<std::byte> data) const {
    for (auto& byte : data) {
        const uint64_t index = offset_bytes / word_bytes;
        byte = std::byte{0};
        if (index / words < entries_.size())
            byte = byte_of(word(entries_[index / words], static_cast<unsigned>(index % words)),
                           static_cast<unsigned>(offset_bytes % word_bytes));
        ++offset_bytes;
    }
}

std::vector<uint32_t> MsixTable::write_table(uint64_t offset_bytes, std::span<const std::byte> data) {
    for (const auto byte : data) {
        const uint64_t index = offset_bytes / word_bytes;
        if (index / words >= entries_.size()) break;
        auto& entry = entries_[index / words];
        const auto part = static_cast<unsigned>(index % words);
        const auto shift = static_cast<unsigned>(offset_bytes % word_bytes) * 8;
        const uint32_t others = word(entry, part) & ~(0xffu << shift);
        set_word(entry, part, others | std::to_integer<uint32_t>(byte) << shift);
        ++offset_bytes;
    }
    return due();
}

void MsixTable::read_pending(uint64_t offset_bytes, std::span<std::byte> data) const {
    for (auto& byte : data) {
        unsigned bits = 0;
        for (unsigned bit = 0; bit < 8; ++bit) {
            const uint64_t vector = offset_bytes * 8 + bit;
            if (vector < entries_.size() && entries_[vector].pending) bits |= 1u << bit;
        }
        byte = static_cast<std::byte>(bits);
        ++offset_bytes;
    }
}

std::vector<uint32_t> MsixTable::set_control(bool enabled, bool masked) {
    enabled_ = enabled;
    masked_ = masked;
    return due();
}

std::vector<uint32_t> MsixTable::due() const {
    std::vector<uint32_t> vectors;
    if (!enabled_ || masked_) return vectors;
    for (uint32_t i = 0; i < entries_.size(); ++i)
        if (entries_[i].pending && !entries_[i].masked) vectors.push_back(i);
    return vectors;
}

std::optional<MsixMessage> MsixTable::signal(uint32_t vector) {
    if (!enabled_ || vector >= entries_.size()) return std::nullopt;
    auto& entry = entries_[vector];
    entry.pending = masked_ || entry.masked;
    if (entry.pending) return std::nullopt;
    return MsixMessage{entry.address, entry.data};
}

uint32_t MsixTable::wanted() const {
    if (!enabled_ || masked_) return 0;
    for (auto i = static_cast<uint32_t>(entries_.size()); i > 0; --i)
        if (entries_[i - 1].address != 0) return i;
    return 0;
}

} // namespace lanepool::smartio
