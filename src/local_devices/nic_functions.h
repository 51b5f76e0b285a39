// SPDX-License-Identifier: Apache-2.0
//
// What a network card's physical function keeps for each of its VFs, outlasting every reset of the VF: set
// and read through rtnetlink, as `ip link set DEVICE vf N ...` does (Linux, linux/if_link.h).
#pragma once

#include "base/result.h"
#include "local_devices/system.h"

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace lanepool::local_devices {

using MacAddress = std::array<uint8_t, 6>;

struct NicFunctionSettings {
    MacAddress mac = {}; // all zero: the VF chooses its own
    uint32_t vlan = 0, vlan_priority = 0;
    uint32_t least_rate_mbit_per_s = 0, most_rate_mbit_per_s = 0; // 0: no limit
    bool spoof_check = false, trusted = false;
    uint32_t link_state = 0; // 0: as the physical link
    bool operator==(const NicFunctionSettings&) const = default;
};

// Of VF number INDEX of INTERFACE ("eth2").
Result<NicFunctionSettings> nic_function_settings(System& system, const std::string& interface,
                                                  unsigned index);

// Puts them back to what a VF begins with: no VLAN, no limits, not trusted, link as the physical one, spoof
// check on, and no MAC address of the parent's, or a new random one where the driver insists on one. What a
// driver has no setting for is left out. Errors: io, when one is afterwards not as it should be.
Result<> clean_nic_function(System& system, const std::string& interface, unsigned index);

// Reads the answer to the question for the settings of VF INDEX. Errors: protocol, not_found, and what the
// kernel says.
Result<NicFunctionSettings> parse_nic_function(std::span<const std::byte> answer, unsigned index);

} // namespace lanepool::local_devices
