// SPDX-License-Identifier: Apache-2.0
//
// IOMMU groups (Documentation/ABI/testing/sysfs-kernel-iommu_groups of Linux).
#include "inventory/parts.h"
#include "pci/address.h"

#include <algorithm>
#include <fmt/format.h>

namespace lanepool::inventory {

namespace {

constexpr size_t most_groups = 16384;
constexpr size_t most_reserved = 256;
constexpr std::string_view all_groups = "/sys/kernel/iommu_groups";

void read_reserved(Files& files, const std::string& folder, IommuGroup& group) {
    const auto text = files.read(folder + "/reserved_regions", 16384).value_or("");
    for (const auto line : split(text, '\n')) {
        const auto words = words_of(line);
        if (words.size() != 3 || group.reserved.size() == most_reserved) continue;
        const auto first = to_number(words[0]), last = to_number(words[1]);
        if (first && last && *first <= *last)
            group.reserved.push_back({*first, *last, printable(words[2], 32)});
    }
}

} // namespace

void read_groups(Files& files, Machine& machine) {
    for (const auto& [name, kind] : files.list(std::string(all_groups), most_groups)) {
        const auto number = to_number(name);
        if (!number || *number > ~0u || kind == Kind::file) continue;
        const std::string folder = fmt::format("{}/{}", all_groups, name);
        if (read_word(files, folder + "/name") == "vfio-noiommu") {
            machine.notes.push_back(
                fmt::format("group {} is VFIO's without an IOMMU: nothing isolates what is in it", name));
            continue;
        }
        IommuGroup group;
        group.number = static_cast<unsigned>(*number);
        group.type = read_word(files, folder + "/type", 64);
        for (const auto& member : files.list(folder + "/devices", most_groups))
            if (const auto address = pci::parse_address(member.name)) group.members.push_back(*address);
        std::ranges::sort(group.members);
        read_reserved(files, folder, group);
        machine.groups.push_back(std::move(group));
    }
    std::ranges::sort(machine.groups, {}, &IommuGroup::number);
    for (const auto& group : machine.groups)
        for (const auto& member : group.members) {
            const auto function = std::ranges::lower_bound(machine.functions, member, {}, &Function::address);
            if (function != machine.functions.end() && function->address == member)
                function->iommu_group = group.number;
        }
    // A link to a group that is not shown, or to VFIO's without an IOMMU, isolates nothing.
    for (auto& function : machine.functions)
        if (function.iommu_group && std::ranges::find(machine.groups, *function.iommu_group,
                                                      &IommuGroup::number) == machine.groups.end())
            function.iommu_group.reset();
}

} // namespace lanepool::inventory
