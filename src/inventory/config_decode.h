// SPDX-License-Identifier: Apache-2.0
//
// What the bytes of a configuration space say of a function (PCI Express Base Specification, chapter 7).
#pragma once

#include "inventory/machine.h"

#include <span>

namespace lanepool::inventory {

// Fills in what CONFIG says: the type, buses below, capabilities, link, identity where it is not known yet.
// Takes any bytes: 64 of them are what everybody may read, none what nobody could; a chain of capabilities
// that goes wrong is followed to where it does, and noted.
void decode_config(std::span<const std::byte> config, Function& function);

} // namespace lanepool::inventory
