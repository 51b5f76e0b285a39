// SPDX-License-Identifier: Apache-2.0
#include "inventory/reader.h"

#include "inventory/names.h"
#include "inventory/parts.h"

#include <algorithm>

namespace lanepool::inventory {

Machine read_machine(const Roots& roots) {
    DiskFiles files(roots);
    return read_machine(files, read_ids(roots.ids));
}

Machine read_machine(Files& files, std::string_view ids,
                     const std::optional<std::filesystem::path>& registers) {
    Machine machine;
    for (const auto& place : find_functions(files, machine.notes))
        machine.functions.push_back(read_function(files, place));
    std::ranges::sort(machine.functions, {}, &Function::address);
    if (machine.functions.empty()) machine.notes.push_back("no PCI function is shown below /sys/bus/pci");
    relate_functions(files, machine);
    read_classes(files, machine);
    name_functions(ids, machine.functions);
    if (ids.empty())
        machine.notes.push_back("there is no pci.ids on this machine: install it for the names of vendors "
                                "and devices (Debian: apt-get install pci.ids)");
    read_groups(files, machine);
    machine.host = read_host(files, machine.groups);
    machine.adapters = find_adapters(files, machine.functions, registers);
    const auto incomplete = std::ranges::count(machine.functions, false, &Function::config_complete);
    if (incomplete > 0)
        machine.notes.push_back(fmt::format("of {} of {} functions only a part of the configuration space "
                                            "could be read: as root, ACS, resets "
                                            "and the numbers of interrupt vectors are seen, too",
                                            incomplete, machine.functions.size()));
    return machine;
}

} // namespace lanepool::inventory
