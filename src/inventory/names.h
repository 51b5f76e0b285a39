// SPDX-License-Identifier: Apache-2.0
//
// What vendors, devices and classes are called.
#pragma once

#include "inventory/machine.h"

#include <filesystem>
#include <string>
#include <string_view>

namespace lanepool::inventory {

// The text of pci.ids: of FILE, or with an empty name of the one that distributions install; empty where
// there is none.
std::string read_ids(const std::filesystem::path& file);
// Fills in the names of all functions that the text of a pci.ids file has.
void name_functions(std::string_view ids, std::vector<Function>& functions);

// One word for what a function is, as commands and the site file's selectors have it: "nvme", "gpu", "nic",
// "fpga", "ntb", "bridge", "storage", "usb", "audio" or "other".
std::string_view kind_of(const Function& function);
// The name of a function for people: its model, the names of pci.ids, or its ids. Never empty.
std::string title_of(const Function& function);

} // namespace lanepool::inventory
