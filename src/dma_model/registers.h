// SPDX-License-Identifier: Apache-2.0
//
// The DMA engine as its users see it: registers in BAR0 and descriptors in memory (docs/dma-engine.md). All
// of it is little-endian. No register acts on a write of the value that it has already: all of BAR0 is
// memory, and writes are noticed by looking.
#pragma once

#include "base/endian.h"

#include <cstddef>
#include <cstdint>

namespace lanepool::dma_model {

inline constexpr uint16_t device_id = 0x0120;
inline constexpr uint32_t class_code = 0x120000; // processing accelerator
inline constexpr uint64_t bar0_bytes = 0x4000;

// WIDTH bits from bit LO of a register.
template <unsigned lo, unsigned width>
struct Field {
    static_assert(width > 0 && lo + width <= 32);
    static constexpr uint32_t mask = static_cast<uint32_t>((uint64_t{1} << width) - 1) << lo;
    constexpr uint32_t get(uint32_t raw) const { return (raw & mask) >> lo; }
    constexpr uint32_t operator()(uint32_t value) const { return (value << lo) & mask; }
};

// Offsets of registers of 4 bytes in BAR0.
namespace reg {
inline constexpr uint64_t identity = 0x00;     // read-only: magic
inline constexpr uint64_t version = 0x04;      // read-only: major << 16 | minor
inline constexpr uint64_t capabilities = 0x08; // read-only
inline constexpr uint64_t opcodes = 0x0c;      // read-only: bit n is set when there is opcode n
inline constexpr uint64_t control = 0x10;
inline constexpr uint64_t status = 0x14;  // read-only
inline constexpr uint64_t error = 0x18;   // read-only: EngineError, why the engine has stopped
inline constexpr uint64_t scratch = 0x1c; // of no meaning
inline constexpr uint64_t ring_base_low = 0x20;
inline constexpr uint64_t ring_base_high = 0x24;
inline constexpr uint64_t ring_entries = 0x28;
// Each on a page of its own, so that they can be mapped apart.
inline constexpr uint64_t tail = 0x1000; // the doorbell: the descriptor behind the last one to be done
inline constexpr uint64_t head = 0x2000; // read-only: the first descriptor that is not done
} // namespace reg

inline constexpr uint32_t magic = 0x414d444c; // "LDMA"
inline constexpr uint32_t current_version = 1 << 16;

namespace capabilities {
inline constexpr Field<0, 8> max_ring_log2;   // descriptors in a ring, at most
inline constexpr Field<8, 8> max_length_log2; // bytes of one descriptor, at most
} // namespace capabilities
inline constexpr uint32_t max_ring_log2 = 12;
inline constexpr uint32_t max_length_log2 = 30;
inline constexpr uint32_t max_length_bytes = 1u << max_length_log2;

namespace control {
inline constexpr Field<0, 1> enable;
inline constexpr Field<1, 1> reset; // as after power-on; reads as 0 when it is done
} // namespace control

namespace status {
inline constexpr Field<0, 1> running; // follows CONTROL.enable
inline constexpr Field<1, 1> failed;  // stopped by ERROR, until CONTROL.enable is taken away
} // namespace status

enum class EngineError : uint32_t {
    none = 0,
    ring_size = 1,        // RING_ENTRIES is no power of two from 2 to the most that is possible
    ring_alignment = 2,   // the ring does not begin at a multiple of 64
    ring_unreachable = 3, // no memory that can be read and written, or not any more
    tail_range = 4,       // TAIL is not below RING_ENTRIES
};

enum class Opcode : uint16_t {
    nop = 0,
    copy = 1,   // destination := source
    fill = 2,   // destination := operand, again and again, from its lowest byte on
    crc32c = 3, // destination (4 bytes) and result := CRC-32C of source (polynomial 0x1edc6f41)
    add = 4,    // destination := source + operand's memory, as vectors of 32-bit integers
};
inline constexpr uint16_t opcode_count = 5;

namespace flags {
inline constexpr uint16_t signal = 1 << 0; // by MSI vector 0 when it is done, well or not
inline constexpr uint16_t all = signal;
} // namespace flags

// What becomes of a descriptor. Not zero, so that it can be waited for.
enum class Outcome : uint32_t {
    pending = 0, // written by the user, before the doorbell
    done = 1,
    invalid_opcode = 2,
    invalid_flags = 3,
    invalid_length = 4, // 0, over the limit, or for `add` no multiple of 4
    invalid_alignment = 5,
    source_unreachable = 6, // nothing mapped there that can be read
    destination_unreachable = 7,
    operand_unreachable = 8,
};

struct Descriptor {
    le16 opcode; // Opcode
    le16 flags;
    le32 length; // bytes of source and destination; of the source for crc32c; ignored by nop
    le64 source; // IOVAs
    le64 destination;
    le64 operand; // fill: the pattern; add: the IOVA of the second source
    le64 user;    // left alone, and so is the next
    le64 reserved;
    le64 reserved2;
    le32 result;  // crc32c's; else 0
    le32 outcome; // Outcome; written after all else
};
static_assert(sizeof(Descriptor) == 64);
static_assert(offsetof(Descriptor, source) == 8);
static_assert(offsetof(Descriptor, operand) == 24);
static_assert(offsetof(Descriptor, result) == 56);
static_assert(offsetof(Descriptor, outcome) == 60);

} // namespace lanepool::dma_model
