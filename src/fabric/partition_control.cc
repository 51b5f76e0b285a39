// SPDX-License-Identifier: Apache-2.0
#include "fabric/partition_control.h"

#include "fabric/register_access.h"

namespace lanepool::fabric {

namespace switchtec = ntb::switchtec;
using Block = switchtec::ControlBlock;

namespace {

// The proxy is 8 bits of device and function number on one bus: more entries could not be told apart.
constexpr uint16_t requester_slots = 256;

constexpr uint32_t bar_ctl_writable = switchtec::bar_ctl::Direct::mask | switchtec::bar_ctl::Lut::mask |
                                      switchtec::bar_ctl::LutSizeLog2::mask |
                                      switchtec::bar_ctl::LutCountMinus1::mask;

uint32_t entry_error(std::optional<uint16_t> entry) {
    using namespace switchtec::control_error;
    return entry ? EntryValid::of(true) | Entry::of(*entry) : 0;
}

} // namespace

PartitionControl::PartitionControl(const WindowBars& bars, uint64_t targets, unsigned lut_entries)
    : bars_(bars), targets_(targets), lut_entries_(lut_entries) {
    reset();
}

void PartitionControl::reset() {
    holder_.reset();
    registers_ = {};
    registers_.lut_entries = static_cast<uint16_t>(lut_entries_);
    registers_.lut_offset = offsetof(Block, lut_entry);
    registers_.requesters = requester_slots;
    registers_.requester_offset = offsetof(Block, requester_entry);
    for (unsigned slot = 0; slot < switchtec::bar_slots; ++slot)
        registers_.bar_entry[slot].ctl = switchtec::bar_ctl::Valid::of(bars_[slot] != 0);
    in_force_ = registers_;
    windows_ = Windows(bars_, lut_entries_);
    requesters_.reset();
}

void PartitionControl::release(unsigned holder) {
    if (holder_ != holder) return;
    holder_.reset();
    registers_ = in_force_;
}

void PartitionControl::read(unsigned reader, uint64_t offset_bytes, std::span<std::byte> data) const {
    read_image(image(registers_), offset_bytes, data);
    // Only who holds the lock sees it as taken: two that ask for it could not tell otherwise who has it.
    auto status = switchtec::ControlStatus::normal;
    if (holder_)
        status = *holder_ == reader ? switchtec::ControlStatus::locked : switchtec::ControlStatus::locking;
    const le32 value = switchtec::ControlStatusField::of(status);
    for (size_t i = offset_bytes; i < sizeof(value) && i - offset_bytes < data.size(); ++i)
        data[i - offset_bytes] = image(value)[i];
}

void PartitionControl::write(unsigned writer, uint64_t offset_bytes, std::span<const std::byte> data) {
    if (holder_ == writer) write_registers(offset_bytes, data);
    if (const auto op = written_whole<uint32_t>(offsetof(Block, op), {offset_bytes, data}))
        operate(writer, static_cast<switchtec::ControlOp>(*op));
}

void PartitionControl::write_registers(uint64_t offset_bytes, std::span<const std::byte> data) {
    const BlockWrite write{offset_bytes, data};
    const auto block = writable_image(registers_);
    overlay(block, offsetof(Block, partition_ctrl), sizeof(le32), write);
    overlay(block, offsetof(Block, bar_entry), sizeof(Block::bar_entry), write);
    overlay(block, offsetof(Block, bar_ext_entry), sizeof(Block::bar_ext_entry), write);
    overlay(block, offsetof(Block, requester_entry), sizeof(Block::requester_entry), write);
    overlay(block, offsetof(Block, lut_entry), sizeof(Block::lut_entry), write);

    if (write.touches(offsetof(Block, bar_entry), sizeof(Block::bar_entry) + sizeof(Block::bar_ext_entry)))
        for (unsigned slot = 0; slot < switchtec::bar_slots; ++slot) {
            auto& entry = registers_.bar_entry[slot];
            if (!bars_[slot]) {
                entry = {};
                registers_.bar_ext_entry[slot] = {};
                continue;
            }
            entry.ctl = switchtec::bar_ctl::Valid::of(true) | (entry.ctl & bar_ctl_writable);
        }
    for (unsigned i = 0; i < switchtec::max_requesters; ++i) {
        if (!write.touches(offsetof(Block, requester_entry) + i * sizeof(le32), sizeof(le32))) continue;
        auto& entry = registers_.requester_entry[i];
        const bool enabled = switchtec::requester::Enable::get(entry);
        const auto proxy = static_cast<uint8_t>(enabled ? i : 0);
        entry = (entry & (switchtec::requester::Id::mask | switchtec::requester::Enable::mask)) |
                switchtec::requester::Proxy::of(proxy);
    }
}

void PartitionControl::operate(unsigned writer, switchtec::ControlOp op) {
    switch (op) {
    case switchtec::ControlOp::lock:
        if (!holder_) holder_ = writer;
        return;
    case switchtec::ControlOp::config:
        if (holder_ == writer && configure()) holder_.reset();
        return;
    case switchtec::ControlOp::reset:
        if (!holder_ || holder_ == writer) reset();
        return;
    }
}

bool PartitionControl::configure() {
    const auto requesters = std::make_unique<std::bitset<65536>>();
    const auto requester_error = configure_requesters(*requesters);
    // A copy, so that a refused requester does not leave half of the change in force.
    Windows next = windows_;
    const auto errors = next.configure(registers_, targets_);
    registers_.bar_error = switchtec::control_error::Bars::of(errors.bars);
    registers_.lut_error = entry_error(errors.lut_entry);
    registers_.requester_error = entry_error(requester_error);
    if (errors || requester_error) return false;
    windows_ = std::move(next);
    requesters_ = *requesters;
    in_force_ = registers_;
    return true;
}

std::optional<uint16_t> PartitionControl::configure_requesters(std::bitset<65536>& ids) const {
    for (uint16_t i = 0; i < switchtec::max_requesters; ++i) {
        const uint32_t entry = registers_.requester_entry[i];
        if (!switchtec::requester::Enable::get(entry)) continue;
        if (i >= requester_slots) return i;
        ids.set(switchtec::requester::Id::get(entry));
    }
    return std::nullopt;
}

} // namespace lanepool::fabric
