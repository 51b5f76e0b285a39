// SPDX-License-Identifier: Apache-2.0
//
// Reads what a machine has on its PCI buses. Nothing is changed on it. A function that sleeps (D3) is woken
// by reading its configuration space, as by lspci.
#pragma once

#include "inventory/files.h"
#include "inventory/machine.h"

#include <string_view>

namespace lanepool::inventory {

// What is there, as far as it can be read; whatever else is in the notes. Takes root for what stands beyond
// the first 64 bytes of configuration spaces (capabilities: ACS, MSI, resets), for serial numbers and for
// lockdown.
Machine read_machine(const Roots& roots);
// The same from any files, with the text of pci.ids (may be empty). REGISTERS: where /sys is, if the
// registers of NTB adapters are to be read there, too (takes root).
Machine read_machine(Files& files, std::string_view ids,
                     const std::optional<std::filesystem::path>& registers = std::nullopt);

} // namespace lanepool::inventory
