// SPDX-License-Identifier: Apache-2.0
#include "ntb/messages.h"

#include "ntb/switchtec.h"

namespace lanepool::ntb {

using switchtec::MessageBlock;

namespace {
constexpr uint64_t in_message(unsigned i) {
    return offsetof(MessageBlock, imsg) + i * sizeof(switchtec::InMessage);
}
constexpr uint64_t out_message(unsigned i) {
    return offsetof(MessageBlock, omsg) + i * sizeof(switchtec::OutMessage);
}
} // namespace

uint64_t Messages::at(uint64_t offset_bytes) const {
    return switchtec::gas::messages(own_.value) + offset_bytes;
}

Result<> Messages::set_up(uint8_t vector) {
    constexpr unsigned first = switchtec::first_message_doorbell;
    for (unsigned i = 0; i < switchtec::message_registers; ++i) {
        TRY(registers_.write8(at(offsetof(MessageBlock, vec_map) + first + i), vector));
        TRY(registers_.write8(at(in_message(i) + offsetof(switchtec::InMessage, status)),
                              switchtec::in_message_status));
        TRY(registers_.write8(at(in_message(i) + offsetof(switchtec::InMessage, mask)),
                              switchtec::in_message_enable));
    }
    return registers_.write64(at(offsetof(MessageBlock, idb_mask)), ~uint64_t{0} << first);
}

Result<> Messages::send(Partition partition, uint32_t message) {
    const std::lock_guard lock(send_mutex_);
    if (mapped_ != partition.value) {
        mapped_ = -1;
        uint32_t map = 0;
        for (unsigned i = 0; i < switchtec::message_registers; ++i) {
            const auto byte = static_cast<uint8_t>(switchtec::msg_map::Index::of(static_cast<uint8_t>(i)) |
                                                   switchtec::msg_map::TargetPartition::of(partition.value));
            map |= uint32_t{byte} << (8 * i);
        }
        TRY(registers_.write32(at(offsetof(MessageBlock, msg_map)), map));
        mapped_ = partition.value;
    }
    for (unsigned attempt = 0; attempt < switchtec::message_registers; ++attempt) {
        // Senders begin at different registers, so that they seldom meet.
        const unsigned i = (own_.value + attempt) % switchtec::message_registers;
        TRY(registers_.write32(at(out_message(i) + offsetof(switchtec::OutMessage, msg)), message));
        const auto status = static_cast<switchtec::OutStatus>(
            TRY(registers_.read32(at(out_message(i) + offsetof(switchtec::OutMessage, status)))));
        if (status == switchtec::OutStatus::delivered) return {};
        if (status != switchtec::OutStatus::busy)
            return fail(Errc::unavailable, "partition {} cannot be reached: its link or ours is down",
                        partition.value);
    }
    return fail(Errc::busy, "partition {} has not taken the last messages yet: try again", partition.value);
}

Result<> Messages::take(const std::function<void(Partition from, uint32_t message)>& deliver) const {
    for (unsigned i = 0; i < switchtec::message_registers; ++i) {
        // The status first: text and sender stay as they are from when it says that a message is there until
        // the message is taken, however many accesses reading them takes.
        constexpr uint64_t start = offsetof(switchtec::InMessage, status);
        const uint32_t state = TRY(registers_.read32(at(in_message(i) + start)));
        const auto byte = [&](uint64_t offset) {
            return static_cast<uint8_t>(state >> (8 * (offset - start)));
        };
        if ((byte(offsetof(switchtec::InMessage, status)) & switchtec::in_message_status) == 0) continue;
        const uint32_t text =
            TRY(registers_.read_text(at(in_message(i) + offsetof(switchtec::InMessage, msg))));
        TRY(registers_.write8(at(in_message(i) + start), switchtec::in_message_status));
        const Partition from{byte(offsetof(switchtec::InMessage, source))};
        if (from.value < max_partitions && deliver) deliver(from, text);
    }
    return {};
}

} // namespace lanepool::ntb
