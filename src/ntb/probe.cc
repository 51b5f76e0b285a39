// SPDX-License-Identifier: Apache-2.0
#include "ntb/probe.h"

#include "ntb/registers.h"
#include "pci/config_space.h"

namespace lanepool::ntb {

namespace {

namespace gas = switchtec::gas;
constexpr auto config = pci::Region::config;

Result<uint16_t> check_kind(pci::Function& function) {
    const uint16_t vendor = TRY(pci::read16(function, config, pci::config::vendor_id));
    const uint16_t device = TRY(pci::read16(function, config, pci::config::device_id));
    const uint32_t revision_and_class = TRY(pci::read32(function, config, pci::config::revision));
    if (vendor == 0xffff)
        return fail(Errc::disconnected, "the adapter's configuration space reads all-ones: it has gone");
    if (vendor != switchtec::vendor_id || !switchtec::generation(device))
        return fail(Errc::not_supported,
                    "device {:04x}:{:04x} is not a Switchtec switch of generation 3 to 6", vendor, device);
    if (revision_and_class >> 8 != switchtec::class_code)
        return fail(
            Errc::not_supported,
            "device {:04x}:{:04x} has class {:06x}: only {:06x} is an NT endpoint; check the partition's "
            "configuration in the switch",
            vendor, device, revision_and_class >> 8, switchtec::class_code);
    if (function.region(pci::Region::bar0).size_bytes < gas::size_bytes)
        return fail(Errc::not_supported, "BAR 0 has {} bytes, the registers need {}",
                    function.region(pci::Region::bar0).size_bytes, gas::size_bytes);
    return device;
}

} // namespace

Result<> enable(pci::Function& function, bool on) {
    uint16_t command = TRY(pci::read16(function, config, pci::config::command));
    command = static_cast<uint16_t>(command | pci::command::memory_space);
    command =
        static_cast<uint16_t>(on ? command | pci::command::bus_master : command & ~pci::command::bus_master);
    return pci::write16(function, config, pci::config::command, command);
}

Result<Identity> probe(pci::Function& function) {
    const uint16_t device = TRY(check_kind(function));
    TRY(enable(function, true));
    const Registers registers(function);
    Identity identity;
    identity.generation = *switchtec::generation(device);
    const uint32_t said = TRY(registers.read32(gas::sys_info + offsetof(switchtec::SysInfo, device_id)));
    if ((said & 0xffff) != device)
        return fail(Errc::protocol,
                    "the switch calls itself {:04x} in BAR 0 and {:04x} in configuration space", said,
                    device);
    const uint32_t partition = TRY(registers.read32(gas::partition_id(identity.generation)));
    const uint8_t ntb_partition =
        TRY(registers.read8(gas::ntb_info + offsetof(switchtec::NtbInfo, partition_id)));
    if (partition >= max_partitions || partition != ntb_partition)
        return fail(Errc::protocol,
                    "the switch says that this is partition {}, and {} in its NTB information", partition,
                    ntb_partition);
    identity.partition = Partition{ntb_partition};

    constexpr uint64_t every_partition = (uint64_t{1} << max_partitions) - 1;
    identity.endpoints =
        TRY(registers.read_partition_map(gas::ntb_info + offsetof(switchtec::NtbInfo, ep_map))) &
        every_partition;
    if (!has_partition(identity.endpoints, identity.partition))
        return fail(Errc::protocol, "the switch does not list its partition {} as an NT endpoint", partition);
    // All zeroes: the switch was not given a list, and any pair may talk.
    const uint64_t targets = TRY(registers.read_partition_map(
        gas::ntb_info + offsetof(switchtec::NtbInfo, partitions) +
        partition * sizeof(switchtec::NtbPartition) + offsetof(switchtec::NtbPartition, targets_low)));
    identity.targets =
        identity.endpoints & (targets == 0 ? every_partition : targets) & ~(uint64_t{1} << partition);
    const uint32_t requester =
        TRY(registers.read32(gas::ntb_info + offsetof(switchtec::NtbInfo, requester_id)));
    identity.requester = {static_cast<uint16_t>(requester)};

    for (unsigned p = 0; p < max_partitions; ++p) {
        if (!has_partition(identity.endpoints, Partition{static_cast<uint8_t>(p)})) continue;
        identity.pffs[p] = TRY(registers.read32(gas::part_cfg(p) + offsetof(switchtec::PartCfg, vep_pff)));
        if (identity.pffs[p] >= gas::max_pffs)
            return fail(Errc::protocol, "partition {} has an NT endpoint, but port {} does not exist", p,
                        identity.pffs[p]);
    }
    return identity;
}

} // namespace lanepool::ntb
