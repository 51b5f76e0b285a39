// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "api/lanepool.pb.h"
#include "pci/function.h"
#include "smartio/device_class.h"

#include <memory>

namespace lanepool::agent {

// What configuration space says of a function. Errors: disconnected (all-ones), and what reading it says.
Result<v1::DeviceIdentity> identify_function(pci::Function& device);

// What lending must know of a function of this class code: NVMe drives are identified and wiped by a driver
// of ours; functions that hold no data (NIC, FPGA, GPU) need no more than a reset. Errors: not_supported for
// other storage, which could not be wiped.
Result<std::unique_ptr<smartio::DeviceClass>> device_class_for(uint32_t class_code);

} // namespace lanepool::agent
