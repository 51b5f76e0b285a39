// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/function_source.h"
#include "api/lanepool.pb.h"
#include "pci/function.h"
#include "smartio/device_class.h"

#include <memory>

namespace lanepool::agent {

// The pool's word for a class of devices: "nvme", "nic", "gpu", "fpga" or "other".
const char* kind_of(uint32_t class_code);
// What configuration space says of a function. Errors: disconnected (all-ones), and what reading it says.
Result<v1::DeviceIdentity> identify_function(pci::Function& device);

// What lending must know of a function of this class code: NVMe drives are identified and wiped by a driver
// of ours; functions that hold no data (NIC, FPGA, GPU) need no more than a reset. Errors: not_supported for
// other storage, which could not be wiped.
Result<std::unique_ptr<smartio::DeviceClass>> device_class_for(uint32_t class_code);

// The same of an SR-IOV function: what its last user left at its parent is removed by SOURCE's host whenever
// it has been reset.
std::unique_ptr<smartio::DeviceClass> cleaned_by_host(std::unique_ptr<smartio::DeviceClass> device_class,
                                                      std::shared_ptr<FunctionSource> source);

} // namespace lanepool::agent
