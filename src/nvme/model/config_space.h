// SPDX-License-Identifier: Apache-2.0
//
// What the controller is in configuration space, and what lies where in BAR0.
#pragma once

#include "device_model/config_space.h"
#include "nvme/spec.h"

#include <cstdint>

namespace lanepool::nvme::model {

using device_model::vendor_id;
inline constexpr uint16_t device_id = 0x0010;

// BAR0: registers, then pages of their own for what is mapped or intercepted differently.
inline constexpr uint64_t bar0_bytes = 0x4000;
inline constexpr uint64_t doorbell_page_offset = 0x1000;
inline constexpr uint64_t doorbell_page_bytes = 0x1000;
inline constexpr uint64_t msix_table_offset = 0x2000;
inline constexpr uint64_t msix_pba_offset = 0x3000;

inline constexpr unsigned msi_vectors_log2 = 5;
inline constexpr uint32_t msi_vectors = 1u << msi_vectors_log2;
inline constexpr uint16_t msix_vectors = 65; // one per I/O queue and one for the admin queue

inline device_model::ConfigOptions config_options(bool msix, uint64_t serial_number) {
    device_model::ConfigOptions options;
    options.device_id = device_id;
    options.class_code = class_code;
    options.bar0_bytes = bar0_bytes;
    options.msi_vectors_log2 = msi_vectors_log2;
    if (msix) options.msix = {msix_vectors, msix_table_offset, msix_pba_offset};
    options.serial_number = serial_number;
    return options;
}

} // namespace lanepool::nvme::model
