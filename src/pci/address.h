// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"
#include "pci/types.h"

#include <string>
#include <string_view>

namespace lanepool::pci {

// "0000:3b:00.1", as Linux writes it: four digits of a domain, or up to eight where it needs them. Also
// "3b:00.1", in domain 0. Errors: invalid_argument.
Result<Address> parse_address(std::string_view text);
std::string to_string(const Address& address);
// What it says of itself on its bus.
RequesterId requester_of(const Address& address);

} // namespace lanepool::pci
