// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "nvme/model/config_space.h"
#include "nvme/spec.h"

#include <array>
#include <cstdint>

namespace lanepool::nvme::model {

// What Set Features changes and Get Features tells (NVM Express Base Specification 2.0, section 5.27.1). A
// controller reset brings the defaults back.
struct Features {
    static constexpr uint32_t default_over_temperature_k = 343;

    // Dword 11: bursts of 8 commands, and what the classes weigh to each other.
    static constexpr uint32_t default_burst = 3;
    uint32_t arbitration = arbitration::burst(default_burst) | arbitration::high_weight(31) |
                           arbitration::medium_weight(15) | arbitration::low_weight(7);
    uint32_t power_state = 0;
    uint16_t over_temperature_k = default_over_temperature_k;
    uint16_t under_temperature_k = 0;
    uint32_t error_recovery = 0;
    bool write_cache = true;
    bool queues_allocated = false; // Number of Queues may be set once, before any queue is created
    uint16_t io_queues = 0;        // set below
    uint8_t coalescing_threshold = 0;
    uint8_t coalescing_time_100us = 0;
    std::array<bool, msix_vectors> coalescing_disabled{};
    uint32_t write_atomicity = 0;
    uint32_t async_events = 0;
    std::array<uint8_t, 8> host_id{};
    uint8_t host_behavior_acre = 0;

    uint64_t timestamp_ms = 0; // at timestamp_set_at
    uint64_t timestamp_set_at_ms = 0;
    uint8_t timestamp_origin = 0; // 0: cleared by a reset, 1: by Set Features
};

} // namespace lanepool::nvme::model
