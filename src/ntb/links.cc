// SPDX-License-Identifier: Apache-2.0
#include "ntb/links.h"

namespace lanepool::ntb {

namespace {
constexpr uint32_t clear_and_enable =
    switchtec::event::Occurred::of(true) | switchtec::event::EnableIrq::of(true);
} // namespace

uint64_t Links::link_event(unsigned partition) const {
    return switchtec::gas::pff(identity_.pffs[partition]) + offsetof(switchtec::PffCsr, link_state) +
           offsetof(switchtec::EventRegisters, header);
}

Result<bool> Links::up(Partition partition) const {
    if (!has_partition(identity_.endpoints, partition))
        return fail(Errc::not_found, "the switch has no NT endpoint in partition {}", partition.value);
    const uint32_t link = TRY(registers_.read32(switchtec::gas::pff(identity_.pffs[partition.value]) +
                                                offsetof(switchtec::PffCsr, link)));
    return switchtec::pff_link::Width::get(link) != 0;
}

Result<> Links::enable_events() const {
    for (unsigned p = 0; p < max_partitions; ++p)
        if (has_partition(identity_.endpoints, Partition{static_cast<uint8_t>(p)}))
            TRY(registers_.write32(link_event(p), clear_and_enable));
    return {};
}

Result<bool> Links::take_events() const {
    bool any = false;
    for (unsigned p = 0; p < max_partitions; ++p) {
        if (!has_partition(identity_.endpoints, Partition{static_cast<uint8_t>(p)})) continue;
        const uint32_t header = TRY(registers_.read32(link_event(p)));
        if (!switchtec::event::Occurred::get(header)) continue;
        TRY(registers_.write32(link_event(p), clear_and_enable));
        any = true;
    }
    return any;
}

} // namespace lanepool::ntb
