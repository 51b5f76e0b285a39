// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"
#include "pci/types.h"

#include <filesystem>
#include <string>
#include <vector>

namespace lanepool::vfio {

// What sysfs says of a function, as far as VFIO needs it. SYS is where it is mounted.

// The name of the driver that has it; empty when none has. Errors: not_found when there is no such function.
Result<std::string> driver_of(const std::filesystem::path& sys, const pci::Address& address);
// vfio-pci itself, or a driver made from it for one kind of device.
bool is_vfio_driver(const std::string& driver);

// Errors: failed_precondition when it has none: no IOMMU is at work.
Result<uint32_t> iommu_group_of(const std::filesystem::path& sys, const pci::Address& address);
// The functions of a group, in order. Errors: not_found.
Result<std::vector<pci::Address>> members_of(const std::filesystem::path& sys, uint32_t group);
// Those that a driver of this machine's has, for people: "0000:03:00.1 (igb)"; empty when there are none.
std::string in_use_by_host(const std::filesystem::path& sys, uint32_t group);

} // namespace lanepool::vfio
