// SPDX-License-Identifier: Apache-2.0
#include "fabric/windows.h"

#include <algorithm>

namespace lanepool::fabric {

namespace switchtec = ntb::switchtec;

namespace {

bool allowed(uint64_t partitions, unsigned partition) {
    return partition < switchtec::max_partitions && (partitions >> partition & 1) != 0;
}

bool aligned(uint64_t value, unsigned log2) { return (value & ((uint64_t{1} << log2) - 1)) == 0; }

} // namespace

bool Windows::configure_lut(unsigned slot, uint32_t ctl, unsigned& next_entry) {
    if (!switchtec::bar_ctl::Lut::get(ctl)) return true;
    const unsigned log2 = switchtec::bar_ctl::LutSizeLog2::get(ctl);
    const unsigned count = switchtec::bar_ctl::LutCountMinus1::get(ctl) + 1;
    if (uint64_t{1} << log2 < switchtec::min_window_bytes || count > bars_[slot] >> log2 ||
        count > lut_entries_ - next_entry)
        return false;
    slots_[slot].lut_size_log2 = log2;
    slots_[slot].lut_count = count;
    slots_[slot].first_entry = next_entry;
    next_entry += count;
    return true;
}

bool Windows::configure_direct(unsigned slot, const switchtec::ControlBlock& registers, uint64_t targets) {
    const auto& entry = registers.bar_entry[slot];
    if (!switchtec::bar_ctl::Direct::get(entry.ctl)) return true;
    const uint64_t start = slots_[slot].lut_bytes();
    const uint64_t size = uint64_t{registers.bar_ext_entry[slot].win_size} << 32 |
                          (entry.win_size & switchtec::bar_win::size_mask);
    const unsigned log2 = switchtec::bar_win::XlateLog2::get(entry.win_size);
    const uint64_t address = entry.xlate & switchtec::bar_xlate::address_mask;
    const unsigned partition = switchtec::bar_xlate::TargetPartition::get(entry.xlate);
    if (size == 0 || size > bars_[slot] - start || uint64_t{1} << log2 < size) return false;
    if (!aligned(start, log2) || !aligned(address, log2) || !allowed(targets, partition)) return false;
    slots_[slot].direct = Direct{start, size, {partition, {address}}};
    return true;
}

std::optional<uint16_t> Windows::configure_entries(const Slot& slot, const switchtec::ControlBlock& registers,
                                                   uint64_t targets) {
    for (unsigned i = slot.first_entry; i < slot.first_entry + slot.lut_count; ++i) {
        const uint64_t entry = registers.lut_entry[i];
        if (!switchtec::lut::Enable::get(entry)) continue;
        const unsigned partition = switchtec::lut::TargetPartition::get(entry);
        const uint64_t address = entry & switchtec::lut::address_mask;
        if (!aligned(address, slot.lut_size_log2) || !allowed(targets, partition))
            return static_cast<uint16_t>(i);
        entries_[i] = Hop::Target{partition, {address}};
    }
    return std::nullopt;
}

WindowErrors Windows::configure(const switchtec::ControlBlock& registers, uint64_t targets) {
    Windows next(bars_, lut_entries_);
    WindowErrors errors;
    unsigned next_entry = 0;
    for (unsigned slot = 0; slot < switchtec::bar_slots; ++slot) {
        if (!bars_[slot]) continue;
        if (!next.configure_lut(slot, registers.bar_entry[slot].ctl, next_entry) ||
            !next.configure_direct(slot, registers, targets))
            errors.bars = static_cast<uint8_t>(errors.bars | 1u << slot);
        if (!errors.lut_entry)
            errors.lut_entry = next.configure_entries(next.slots_[slot], registers, targets);
    }
    if (!errors) *this = std::move(next);
    return errors;
}

Hop Windows::translate(unsigned slot_index, uint64_t offset_bytes) const {
    const Slot& slot = slots_[slot_index];
    if (offset_bytes < slot.lut_bytes()) {
        const uint64_t window_bytes = uint64_t{1} << slot.lut_size_log2;
        const uint64_t inside = offset_bytes & (window_bytes - 1);
        Hop hop{entries_[slot.first_entry + (offset_bytes >> slot.lut_size_log2)], window_bytes - inside};
        if (hop.target) hop.target->address = hop.target->address + inside;
        return hop;
    }
    const uint64_t rest = bars_[slot_index] - offset_bytes;
    if (!slot.direct || offset_bytes - slot.direct->offset_bytes >= slot.direct->size_bytes)
        return {{}, rest};
    const uint64_t inside = offset_bytes - slot.direct->offset_bytes;
    Hop hop{slot.direct->target, slot.direct->size_bytes - inside};
    hop.target->address = hop.target->address + inside;
    return hop;
}

unsigned Windows::count() const {
    const auto used = std::ranges::count_if(entries_, [](const auto& entry) { return entry.has_value(); });
    const auto direct =
        std::ranges::count_if(slots_, [](const Slot& slot) { return slot.direct.has_value(); });
    return static_cast<unsigned>(used + direct);
}

} // namespace lanepool::fabric
