// SPDX-License-Identifier: Apache-2.0
//
// What the lender does to its device through config space. Blocking; errors are the function's.
#pragma once

#include "base/result.h"
#include "io/clock.h"
#include "pci/function.h"

#include <cstddef>
#include <span>
#include <vector>

namespace lanepool::smartio {

// The whole config space, 256 or 4096 bytes. Errors also: disconnected when it reads all-ones.
Result<std::vector<std::byte>> read_config(pci::Function& device);

// Replaces the bits of MASK in the command register by those of VALUE.
Result<> change_command(pci::Function& device, uint16_t mask, uint16_t value);

// Where the device control register is, of a device that can do a function-level reset; 0: it cannot.
size_t flr_control_offset(std::span<const std::byte> config);
// Starts a function-level reset at that place and waits until the device answers again. The memory behind the
// regions stays (see pci::Function::reset). Errors: timeout.
Result<> function_level_reset(pci::Function& device, size_t control_offset);

// The device's power states that may be asked for, as its control register has them (PCI Bus Power Management
// Interface Specification 1.2, 3.2.4).
inline constexpr uint16_t power_d0 = 0;
inline constexpr uint16_t power_d3hot = 3;
// Where that register is, of a device that has power management; 0: it has none.
size_t power_control_offset(std::span<const std::byte> config);
// The state in the register at that place of a config space.
uint16_t power_state(std::span<const std::byte> config, size_t control_offset);
// Sets STATE in the register at that place, and waits until the device is there. Errors: timeout.
Result<> set_power_state(pci::Function& device, size_t control_offset, uint16_t state);

// Whether NOW is the config space of the device whose config space was BEFORE: what never changes in a
// device.
Result<> check_same_device(std::span<const std::byte> before, std::span<const std::byte> now);

} // namespace lanepool::smartio
