// SPDX-License-Identifier: Apache-2.0
//
// What the host offers to keep a borrower in its bounds.
#include "pci/address.h"
#include "qualify/subject.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace lanepool::qualify {

namespace {

using inventory::IommuMode;

const inventory::IommuGroup* group_of(const Subject& subject) {
    if (!subject.function.iommu_group) return nullptr;
    const auto found = std::ranges::find(subject.machine.groups, *subject.function.iommu_group,
                                         &inventory::IommuGroup::number);
    return found == subject.machine.groups.end() ? nullptr : &*found;
}

// "Other bridges" lead nowhere: an adapter is one.
bool is_bridge(const inventory::Function& function) {
    return function.bridge || (function.class_code >> 16 == 0x06 && function.class_code >> 8 != 0x0680);
}

// The members that are taken together with the function, without bridges.
std::vector<const inventory::Function*> others_in(const Subject& subject,
                                                  const inventory::IommuGroup& group) {
    std::vector<const inventory::Function*> others;
    for (const auto& address : group.members) {
        const auto* member = subject.machine.find(address);
        if (member && member != &subject.function && !is_bridge(*member)) others.push_back(member);
    }
    return others;
}

bool same_device(const pci::Address& one, const pci::Address& other) {
    return one.domain == other.domain && one.bus == other.bus && one.device == other.device;
}

std::string how_to_switch_on(const Subject& subject) {
    const auto& vendor = subject.machine.host.cpu_vendor;
    if (vendor == "GenuineIntel") return "switch on VT-d in the firmware, and boot with intel_iommu=on";
    if (vendor == "AuthenticAMD") return "switch on the IOMMU (AMD-Vi) in the firmware";
    return "switch on the IOMMU in the firmware and on the kernel's command line";
}

std::string names_of(const std::vector<const inventory::Function*>& functions) {
    std::vector<std::string> names;
    for (const auto* function : functions)
        names.push_back(pci::to_string(function->address) +
                        (function->driver ? " (" + function->driver->name + ")" : ""));
    return fmt::format("{}", fmt::join(names, ", "));
}

// Why a group has several members.
std::string gaps_text(const Subject& subject) {
    std::vector<std::string> reasons;
    for (const auto& gap : inventory::isolation_gaps(subject.machine, subject.function.address))
        reasons.push_back(gap.reason);
    return fmt::format("{}", fmt::join(reasons, "; "));
}

// A bridge in the group whose driver may start DMA, so that the kernel does not give the group away.
const inventory::Function* bridge_in_use(const Subject& subject, const inventory::IommuGroup& group) {
    for (const auto& address : group.members) {
        const auto* member = subject.machine.find(address);
        if (!member || !is_bridge(*member) || !member->driver) continue;
        const auto& driver = member->driver->name;
        if (driver != "pcieport" && driver != "pci-stub" && driver != "vfio-pci") return member;
    }
    return nullptr;
}

} // namespace

Check check_vfio(const Subject& subject) {
    const auto& vfio = subject.machine.host.vfio;
    if (!vfio)
        return {"vfio", Outcome::unknown,
                "whether this kernel has VFIO is not seen: it is not loaded, and there is no list of modules",
                subject.machine.host.kernel_release, "load it: modprobe vfio-pci"};
    const auto evidence = fmt::format("{}", fmt::join(*vfio, " "));
    const auto offers = [&](const char* what) { return std::ranges::find(*vfio, what) != vfio->end(); };
    if (!offers("vfio_pci") || (!offers("type1") && !offers("iommufd")))
        return {"vfio", Outcome::fail, "this kernel has no VFIO for PCI devices",
                evidence.empty() ? "none" : evidence,
                "use a kernel that has it: Debian's linux-image-amd64, not its cloud kernel"};
    return {"vfio", Outcome::pass, "this kernel has VFIO", evidence, ""};
}

Check check_iommu(const Subject& subject) {
    const auto mode = subject.machine.host.iommu;
    const auto units = fmt::format("{}", fmt::join(subject.machine.host.iommu_units, " "));
    if (mode == IommuMode::none)
        return {"iommu", Outcome::fail,
                "this machine shows no IOMMU: a lent device would reach all of its memory", units,
                how_to_switch_on(subject)};
    if (mode == IommuMode::off)
        return {"iommu", Outcome::fail,
                "this machine's IOMMU is not in use: a lent device would reach all of its memory", units,
                how_to_switch_on(subject)};
    if (!subject.function.iommu_group)
        return {"iommu", Outcome::fail,
                "the IOMMU does not isolate this device: the kernel put it into no group", units,
                "look in the kernel's log why; some devices in the chipset are not behind an IOMMU"};
    return {"iommu", Outcome::pass, "the IOMMU isolates it while it is lent", units, ""};
}

Check check_interrupt_remapping(const Subject& subject) {
    const auto& host = subject.machine.host;
    if (host.iommu == IommuMode::none || host.iommu == IommuMode::off)
        return {"interrupt_remapping", Outcome::skipped, "there is no IOMMU", "", ""};
    if (!host.architecture.empty() && host.architecture != "x86_64")
        return {"interrupt_remapping", Outcome::skipped,
                "only x86 has it apart from its interrupt controllers", host.architecture, ""};
    if (!host.interrupt_remapping)
        return {"interrupt_remapping", Outcome::unknown, "whether interrupts are remapped could not be read",
                "", "run it as root, where /proc/interrupts can be read"};
    if (!*host.interrupt_remapping)
        return {"interrupt_remapping", Outcome::fail,
                "interrupts are not remapped: a lent device could send any interrupt to its host, and VFIO "
                "refuses it",
                "",
                "switch on interrupt remapping or x2APIC in the firmware, and do not boot with intremap=off"};
    return {"interrupt_remapping", Outcome::pass, "interrupts of devices are remapped", "", ""};
}

Check check_iommu_group(const Subject& subject) {
    const auto* group = group_of(subject);
    if (!group) return {"iommu_group", Outcome::skipped, "it is in no IOMMU group", "", ""};
    const auto others = others_in(subject, *group);
    const auto number = fmt::format("group {}", group->number);
    if (const auto* bridge = bridge_in_use(subject, *group))
        return {
            "iommu_group", Outcome::fail,
            fmt::format("the bridge {} in its IOMMU group has a driver that keeps the group from being lent",
                        pci::to_string(bridge->address)),
            bridge->driver->name, "unbind that driver"};
    if (others.empty()) return {"iommu_group", Outcome::pass, "it is alone in its IOMMU group", number, ""};
    const auto evidence = fmt::format("{}: also {}; {}", number, names_of(others), gaps_text(subject));
    for (const auto* other : others)
        for (const auto& adapter : subject.machine.adapters)
            if (other->address == adapter.address)
                return {"iommu_group", Outcome::fail,
                        fmt::format(
                            "the adapter {} is in the same IOMMU group, so that nothing stands between them",
                            pci::to_string(adapter.address)),
                        evidence,
                        "put the device into a slot behind another port, or one whose port has ACS"};
    if (std::ranges::all_of(
            others, [&](const auto* other) { return same_device(other->address, subject.function.address); }))
        return {"iommu_group", Outcome::limits,
                "the other functions of the device are taken together with it", evidence,
                "expect its host to lose these as well"};
    return {"iommu_group", Outcome::limits,
            "other devices are in its IOMMU group, and are taken together with it", evidence,
            "put the device into a slot behind a port of its own that has ACS; else its host loses the "
            "others as well"};
}

Check check_acs(const Subject& subject) {
    const auto* group = group_of(subject);
    if (!group) return {"acs", Outcome::skipped, "without an IOMMU it makes no difference", "", ""};
    const auto gaps = inventory::isolation_gaps(subject.machine, subject.function.address);
    if (gaps.empty()) return {"acs", Outcome::pass, "every port above it separates it from others", "", ""};
    const auto evidence = gaps_text(subject);
    // The kernel also knows ports that separate without saying so.
    if (others_in(subject, *group).empty())
        return {"acs", Outcome::pass, "the kernel holds it for separated from others", evidence, ""};
    if (std::ranges::any_of(gaps, [](const auto& gap) { return !gap.known; }))
        return {"acs", Outcome::limits, "what separates it from others could not be read", evidence,
                "run it as root"};
    return {"acs", Outcome::limits,
            fmt::format("{} does not separate it from others", pci::to_string(gaps.front().address)),
            evidence,
            "use a slot behind a port with ACS; do not override ACS, which only hides that it is missing"};
}

} // namespace lanepool::qualify
