// SPDX-License-Identifier: Apache-2.0
//
// A machine for programs. The names of fields are stable (docs/inventory.md); what is not known is left out.
#pragma once

#include "inventory/machine.h"

#include <nlohmann/json.hpp>

namespace lanepool::inventory {

using Json = nlohmann::ordered_json;

Json to_json(const Host& host);
// MACHINE gives the paths to adapters and what isolates the function.
Json to_json(const Machine& machine, const Function& function);
Json to_json(const IommuGroup& group);
Json to_json(const NtbAdapter& adapter);
Json to_json(const Machine& machine);

std::string_view name(FunctionType type); // "root_port"
std::string_view name(IommuMode mode);    // "translated_lazy"

} // namespace lanepool::inventory
