// SPDX-License-Identifier: Apache-2.0
#include "inventory/machine.h"

#include <algorithm>

namespace lanepool::inventory {

const Function* Machine::find(const pci::Address& address) const {
    const auto found = std::ranges::lower_bound(functions, address, {}, &Function::address);
    return found != functions.end() && found->address == address ? &*found : nullptr;
}

} // namespace lanepool::inventory
