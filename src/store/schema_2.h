// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "store/database.h"

namespace lanepool::store {

// From the tables of schema 2, which had a column for each field and are now called NAME_2, to those of
// schema 3; then the old ones go. Nothing that they say is lost, and the audit trail becomes a chain.
Result<> convert_schema_2(const Database& database);

} // namespace lanepool::store
