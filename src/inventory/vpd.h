// SPDX-License-Identifier: Apache-2.0
//
// Vital Product Data (PCI Express Base Specification 6.27): what a card's maker wrote into it.
#pragma once

#include <string>
#include <string_view>

namespace lanepool::inventory {

struct VitalProductData {
    std::string title, serial;
};

// Of any bytes: what stands before something odd. Empty: not there.
VitalProductData parse_vpd(std::string_view bytes);

} // namespace lanepool::inventory
