// SPDX-License-Identifier: Apache-2.0
#include "fabric/doorbells.h"

#include "fabric/register_access.h"

#include <bit>

namespace lanepool::fabric {

namespace switchtec = ntb::switchtec;
using Block = switchtec::MessageBlock;

namespace {

// Where in the block the status byte of register INDEX lies.
constexpr uint64_t in_message(unsigned index, uint64_t member) {
    return offsetof(Block, imsg) + index * sizeof(switchtec::InMessage) + member;
}
constexpr uint64_t out_message(unsigned index, uint64_t member) {
    return offsetof(Block, omsg) + index * sizeof(switchtec::OutMessage) + member;
}

constexpr uint64_t message_bits = ~uint64_t{0} << switchtec::first_message_doorbell;

} // namespace

void Doorbells::reset() { registers_ = {}; }

void Doorbells::read(uint64_t offset_bytes, std::span<std::byte> data) const {
    read_image(image(registers_), offset_bytes, data);
}

void Doorbells::write(uint64_t offset_bytes, std::span<const std::byte> data) {
    const BlockWrite write{offset_bytes, data};
    // First what takes things away and changes masks and maps, then what sends: the order in which a single
    // large write lists them must not decide whether an interrupt is lost.
    const uint64_t pending_before = pending();
    registers_.idb = registers_.idb & ~written_bits<uint64_t>(offsetof(Block, idb), write);
    for (unsigned i = 0; i < switchtec::message_registers; ++i) {
        auto& message = registers_.imsg[i];
        message.status = static_cast<uint8_t>(
            message.status &
            ~written_bits<uint8_t>(in_message(i, offsetof(switchtec::InMessage, status)), write));
    }
    write_masks_and_maps(offset_bytes, data);
    raise(pending() & ~pending_before);

    if (const uint64_t bits = written_bits<uint64_t>(offsetof(Block, odb), write) & registers_.odb_mask)
        effects_.ring(bits);
    for (unsigned i = 0; i < switchtec::message_registers; ++i)
        if (const auto message =
                written_whole<uint32_t>(out_message(i, offsetof(switchtec::OutMessage, msg)), write))
            send(i, *message);
}

void Doorbells::write_masks_and_maps(uint64_t offset_bytes, std::span<const std::byte> data) {
    const BlockWrite write{offset_bytes, data};
    const auto block = writable_image(registers_);
    overlay(block, offsetof(Block, odb_mask), sizeof(Block::odb_mask), write);
    overlay(block, offsetof(Block, idb_mask), sizeof(Block::idb_mask), write);
    overlay(block, offsetof(Block, vec_map), sizeof(Block::vec_map), write);
    overlay(block, offsetof(Block, msg_map), sizeof(Block::msg_map), write);
    overlay(block, offsetof(Block, msix_table), sizeof(Block::msix_table), write);
    for (unsigned i = 0; i < switchtec::message_registers; ++i)
        overlay(block, in_message(i, offsetof(switchtec::InMessage, mask)), 1, write);
}

// The doorbells and messages that want an interrupt, messages as the top bits.
uint64_t Doorbells::pending() const {
    uint64_t bits = registers_.idb;
    for (unsigned i = 0; i < switchtec::message_registers; ++i) {
        const auto& message = registers_.imsg[i];
        if ((message.status & switchtec::in_message_status) && (message.mask & switchtec::in_message_enable))
            bits |= uint64_t{1} << (switchtec::first_message_doorbell + i);
    }
    return bits & registers_.idb_mask;
}

void Doorbells::raise(uint64_t bits) {
    // Doorbells that share a vector make one interrupt.
    uint64_t raised = 0;
    for (; bits; bits &= bits - 1) {
        const unsigned vector = registers_.vec_map[std::countr_zero(bits)];
        if (vector >= switchtec::max_vectors || (raised >> vector & 1)) continue;
        raised |= uint64_t{1} << vector;
        effects_.interrupt(vector);
    }
}

void Doorbells::ring(uint64_t bits) {
    bits &= ~message_bits;
    registers_.idb = registers_.idb | bits;
    raise(pending() & bits);
}

bool Doorbells::receive(unsigned source, unsigned index, uint32_t message) {
    auto& in = registers_.imsg[index];
    if (in.status & switchtec::in_message_status) return false;
    in.msg = message;
    in.source = static_cast<uint8_t>(source);
    in.status = switchtec::in_message_status;
    raise(pending() & uint64_t{1} << (switchtec::first_message_doorbell + index));
    return true;
}

void Doorbells::send(unsigned index, uint32_t message) {
    const uint8_t map = registers_.msg_map[index];
    const auto status = effects_.send(switchtec::msg_map::TargetPartition::get(map),
                                      switchtec::msg_map::Index::get(map), message);
    registers_.omsg[index].msg = message;
    registers_.omsg[index].status = static_cast<uint32_t>(status);
}

} // namespace lanepool::fabric
