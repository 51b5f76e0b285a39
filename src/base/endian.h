// SPDX-License-Identifier: Apache-2.0
//
// Integers with a fixed byte order and an alignment of one: the members of every struct that lies in foreign
// memory (a register block, a queue entry, a message).
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace lanepool {

template <class T>
class LittleEndian {
  public:
    LittleEndian() = default;
    constexpr LittleEndian(T value) {
        *this = value;
    } // NOLINT(google-explicit-constructor): it is an integer
    constexpr LittleEndian& operator=(T value) {
        for (size_t i = 0; i < sizeof(T); ++i)
            bytes_[i] = static_cast<uint8_t>(value >> (8 * i));
        return *this;
    }
    constexpr operator T() const { // NOLINT(google-explicit-constructor)
        T value = 0;
        for (size_t i = 0; i < sizeof(T); ++i)
            value = static_cast<T>(value | (static_cast<T>(bytes_[i]) << (8 * i)));
        return value;
    }

  private:
    std::array<uint8_t, sizeof(T)> bytes_{};
};

using le16 = LittleEndian<uint16_t>;
using le32 = LittleEndian<uint32_t>;
using le64 = LittleEndian<uint64_t>;
static_assert(sizeof(le64) == 8 && alignof(le64) == 1);

} // namespace lanepool
