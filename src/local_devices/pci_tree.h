// SPDX-License-Identifier: Apache-2.0
//
// What the kernel says of a PCI function in /sys/bus/pci/devices/ADDRESS.
#pragma once

#include "base/result.h"
#include "local_devices/system.h"
#include "pci/types.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lanepool::local_devices {

// "/sys/bus/pci/devices/0000:3b:00.0/NAME", or without the last part.
std::string attribute(const pci::Address& function, std::string_view name = {});
// The folder itself, which is a symbolic link there: "/sys/devices/pci0000:3a/...".
Result<std::string> real_folder(System& system, const pci::Address& function);
bool present(System& system, const pci::Address& function);

// An attribute's text without white space at its ends; empty where there is none.
std::string text_of(System& system, const std::string& path);
// Where the symbolic link at PATH leads to, as an absolute path; nothing where there is none.
std::optional<std::string> target_of(System& system, const std::string& path);
// The last part of a path.
std::string last_name(std::string_view path);

// The driver that has it; empty: none.
std::string driver_of(System& system, const pci::Address& function);
// "(null)" of the kernel's is the empty text here.
std::string driver_override_of(System& system, const pci::Address& function);

// Who a function is, as far as that can be told of one without a driver.
struct Identity {
    std::string ids;    // vendor, device and those of the subsystem: "0x8086:0x10c9:0x8086:0xa03c"
    std::string serial; // its Device Serial Number; empty: none, or it could not be read
};
Identity identity_of(System& system, const pci::Address& function);
// False where another card has been put into its place.
bool may_be_same(const Identity& one, const Identity& other);

// What others are reached by (class 06). Not so an NT endpoint, which is of its subclass "other" (80).
bool is_bridge(System& system, const pci::Address& function);
std::optional<uint32_t> class_code_of(System& system, const pci::Address& function); // 24 bits

// All functions of its IOMMU group, ascending, itself among them. Errors: not_found (no such function),
// failed_precondition (there is no IOMMU that works).
Result<std::vector<pci::Address>> iommu_group_of(System& system, const pci::Address& function);

// The physical function of a VF.
std::optional<pci::Address> parent_of(System& system, const pci::Address& function);
// The VFs of a physical function, by number.
std::vector<pci::Address> virtual_functions_of(System& system, const pci::Address& parent);

} // namespace lanepool::local_devices
