// SPDX-License-Identifier: Apache-2.0
//
// The parts of read_machine(): each fills in one kind of fact. None of them fails.
#pragma once

#include "inventory/files.h"
#include "inventory/machine.h"

namespace lanepool::inventory {

// A function, and the folder of its attributes ("/sys/devices/pci0000:00/0000:00:01.0").
struct Place {
    pci::Address address;
    std::string folder;
};

// All functions that the kernel shows; what is odd about them goes to NOTES.
std::vector<Place> find_functions(Files& files, std::vector<std::string>& notes);
// The address that stands last in a path below /sys/devices: of the function that what lies there belongs to.
std::optional<pci::Address> function_in(std::string_view path);

Function read_function(Files& files, const Place& place);
// All of these read from the folder of attributes.
void read_driver(Files& files, const std::string& folder, Function& function);
void read_links(Files& files, const std::string& folder, Function& function);
void read_errors(Files& files, const std::string& folder, Function& function);
void read_sriov(Files& files, const std::string& folder, Function& function);
void read_vital_product_data(Files& files, const std::string& folder, Function& function);

// What takes more than one function: bridges above where paths do not say, slots, functions of one device.
void relate_functions(Files& files, Machine& machine);
// Model, serial number, firmware and device nodes, from the classes of the kernel (nvme, block, net, drm,
// ...).
void read_classes(Files& files, Machine& machine);
void read_groups(Files& files, Machine& machine);
Host read_host(Files& files, const std::vector<IommuGroup>& groups);
// Switchtec NT endpoints; their registers only with REGISTERS.
std::vector<NtbAdapter> find_adapters(Files& files, std::vector<Function>& functions,
                                      const std::optional<std::filesystem::path>& registers);

} // namespace lanepool::inventory
