// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"
#include "store/database.h"

#include <span>

namespace lanepool::store {

// "lnpl": how a file tells that it is ours (PRAGMA application_id).
inline constexpr int64_t application_id = 0x6c6e706c;

struct Migration {
    const char* sql;
    // Afterwards: what SQL alone cannot do.
    Result<> (*convert)(const Database& database) = nullptr;
};

// Each leads from the schema version that is its index to the next one. Only ever appended to.
std::span<const Migration> migrations();

// Brings DATABASE to the newest version, in one transaction. failed_precondition: it is not ours, or its
// version is newer than this program; it is not touched then.
Result<> migrate(const Database& database);

} // namespace lanepool::store
