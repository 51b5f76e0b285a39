// SPDX-License-Identifier: Apache-2.0
#include "fabric/gas.h"

#include "fabric/register_access.h"

namespace lanepool::fabric {

namespace switchtec = ntb::switchtec;
namespace gas = switchtec::gas;

namespace {

// Vector 0 is where Linux expects events before it has set up anything else.
constexpr uint16_t event_vector = 0;

// A block of BAR 0, and which one of its kind.
enum class Kind { none, mrpc, sys_info, part_cfg, ntb_info, control, messages, pff };
struct Place {
    Kind kind;
    unsigned index;
    uint64_t start_bytes;
    uint64_t size_bytes;
};

// The block that contains OFFSET, or the gap, which ends where the next block starts.
Place locate(uint64_t offset) {
    struct Area {
        Kind kind;
        uint64_t start;
        uint64_t stride;
        uint64_t count;
    };
    static constexpr Area areas[] = {
        {Kind::mrpc, gas::mrpc, sizeof(switchtec::Mrpc), 1},
        {Kind::sys_info, gas::sys_info, sizeof(switchtec::SysInfo), 1},
        {Kind::part_cfg, gas::part_cfg_base, sizeof(switchtec::PartCfg), switchtec::max_partitions},
        {Kind::ntb_info, gas::ntb_info, sizeof(switchtec::NtbInfo), 1},
        {Kind::control, gas::control_base, sizeof(switchtec::ControlBlock), switchtec::max_partitions},
        {Kind::messages, gas::message_base, sizeof(switchtec::MessageBlock), switchtec::max_partitions},
        {Kind::pff, gas::pff_base, sizeof(switchtec::PffCsr), gas::max_pffs},
    };
    uint64_t next = gas::size_bytes;
    for (const Area& area : areas) {
        if (offset < area.start) {
            next = std::min(next, area.start);
            continue;
        }
        const uint64_t index = (offset - area.start) / area.stride;
        if (index < area.count)
            return {area.kind, static_cast<unsigned>(index), area.start + index * area.stride, area.stride};
    }
    return {Kind::none, 0, offset, next - offset};
}

} // namespace

Gas::Gas(unsigned partition, unsigned partitions, PartitionPolicy policy, Doorbells& doorbells,
         GasWorld& world)
    : partition_(partition), partitions_(partitions), policy_(policy), doorbells_(doorbells), world_(world) {
    sys_info_.device_id = endpoint_device_id;
    sys_info_.gen4_partition_id = partition;
    ntb_info_.partition_count = static_cast<uint8_t>(partitions);
    ntb_info_.partition_id = static_cast<uint8_t>(partition);
    ntb_info_.ep_map = (uint64_t{1} << partitions) - 1;
    ntb_info_.requester_id = host_requester.value;
    ntb_info_.partitions[partition].targets_low = static_cast<uint32_t>(policy.targets);
    ntb_info_.partitions[partition].targets_high = static_cast<uint32_t>(policy.targets >> 32);
}

void Gas::reset() {
    mrpc_ = {};
    events_ = {};
}

void Gas::read(uint64_t offset_bytes, std::span<std::byte> data) {
    while (!data.empty()) {
        const Place place = locate(offset_bytes);
        const uint64_t size =
            std::min<uint64_t>(data.size(), place.start_bytes + place.size_bytes - offset_bytes);
        read_block(offset_bytes, data.first(size));
        data = data.subspan(size);
        offset_bytes += size;
    }
}

void Gas::write(uint64_t offset_bytes, std::span<const std::byte> data) {
    while (!data.empty()) {
        const Place place = locate(offset_bytes);
        const uint64_t size =
            std::min<uint64_t>(data.size(), place.start_bytes + place.size_bytes - offset_bytes);
        write_block(offset_bytes, data.first(size));
        data = data.subspan(size);
        offset_bytes += size;
    }
}

bool Gas::may_control(unsigned partition) const {
    return partition < partitions_ && (policy_.control >> partition & 1) != 0;
}

void Gas::read_block(uint64_t offset_bytes, std::span<std::byte> data) {
    const Place place = locate(offset_bytes);
    const uint64_t inside = offset_bytes - place.start_bytes;
    std::ranges::fill(data, std::byte{0});
    switch (place.kind) {
    case Kind::none:
        return;
    case Kind::mrpc:
        return read_image(image(mrpc_), inside, data);
    case Kind::sys_info:
        return read_image(image(sys_info_), inside, data);
    case Kind::ntb_info:
        return read_image(image(ntb_info_), inside, data);
    case Kind::part_cfg:
        return read_part_cfg(place.index, inside, data);
    case Kind::control:
        if (may_control(place.index)) world_.control(place.index).read(partition_, inside, data);
        return;
    case Kind::messages:
        if (place.index == partition_) doorbells_.read(inside, data);
        return;
    case Kind::pff:
        return read_pff(place.index, inside, data);
    }
}

void Gas::write_block(uint64_t offset_bytes, std::span<const std::byte> data) {
    const Place place = locate(offset_bytes);
    const uint64_t inside = offset_bytes - place.start_bytes;
    switch (place.kind) {
    case Kind::none:
    case Kind::sys_info:
    case Kind::ntb_info:
        return;
    case Kind::mrpc:
        return write_mrpc(inside, data);
    case Kind::part_cfg:
        return write_part_cfg(place.index, inside, data);
    case Kind::control:
        if (may_control(place.index)) world_.control(place.index).write(partition_, inside, data);
        return;
    case Kind::messages:
        if (place.index == partition_) doorbells_.write(inside, data);
        return;
    case Kind::pff:
        return write_pff(place.index, inside, data);
    }
}

void Gas::write_mrpc(uint64_t offset_bytes, std::span<const std::byte> data) {
    const BlockWrite write{offset_bytes, data};
    overlay(writable_image(mrpc_), offsetof(switchtec::Mrpc, input), sizeof(mrpc_.input), write);
    const auto command = written_whole<uint32_t>(offsetof(switchtec::Mrpc, cmd), write);
    if (!command) return;
    // NTB needs no command, so the firmware knows none.
    mrpc_.cmd = *command;
    mrpc_.status = static_cast<uint32_t>(switchtec::MrpcStatus::done);
    mrpc_.ret_value = switchtec::mrpc_invalid_command;
    if (events_.mrpc.happened()) world_.interrupt(event_vector);
}

void Gas::read_part_cfg(unsigned partition, uint64_t offset_bytes, std::span<std::byte> data) const {
    switchtec::PartCfg config{};
    config.usp_pff = switchtec::no_pff;
    config.vep_pff = partition < partitions_ ? partition : switchtec::no_pff;
    std::ranges::fill(config.dsp_pff, switchtec::no_pff);
    config.vep_vector = event_vector;
    constexpr uint32_t not_supported = switchtec::event::NotSupported::of(true);
    config.part_reset.header = not_supported;
    config.mrpc_comp_async.header = not_supported;
    config.dyn_binding.header = not_supported;
    config.mrpc_comp.header = partition == partition_ ? events_.mrpc.value() : not_supported;
    read_image(image(config), offset_bytes, data);
}

void Gas::write_part_cfg(unsigned partition, uint64_t offset_bytes, std::span<const std::byte> data) {
    if (partition != partition_) return;
    const auto header =
        written_whole<uint32_t>(offsetof(switchtec::PartCfg, mrpc_comp), {offset_bytes, data});
    if (header && events_.mrpc.write(*header)) world_.interrupt(event_vector);
}

void Gas::read_pff(unsigned index, uint64_t offset_bytes, std::span<std::byte> data) const {
    if (index >= partitions_) {
        std::ranges::fill(data, std::byte{0xff});
        return;
    }
    switchtec::PffCsr csr{};
    csr.vendor_id = switchtec::vendor_id;
    csr.device_id = endpoint_device_id;
    if (world_.link_up(index))
        csr.link = switchtec::pff_link::Speed::of(4) | switchtec::pff_link::Width::of(16) |
                   switchtec::pff_link::Active::of(true);
    csr.link_state.header = events_.link[index].value();
    read_image(image(csr), offset_bytes, data);
}

void Gas::write_pff(unsigned index, uint64_t offset_bytes, std::span<const std::byte> data) {
    if (index >= partitions_) return;
    const auto header =
        written_whole<uint32_t>(offsetof(switchtec::PffCsr, link_state), {offset_bytes, data});
    if (header && events_.link[index].write(*header)) world_.interrupt(event_vector);
}

void Gas::link_changed(unsigned partition) {
    if (events_.link[partition].happened()) world_.interrupt(event_vector);
}

} // namespace lanepool::fabric
