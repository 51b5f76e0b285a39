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

// Whether NOW is the config space of the device whose config space was BEFORE: what never changes in a
// device.
Result<> check_same_device(std::span<const std::byte> before, std::span<const std::byte> now);

} // namespace lanepool::smartio
