// SPDX-License-Identifier: Apache-2.0
//
// The statements that write a database of the newest schema.
#pragma once

namespace lanepool::store::sql {

#define LANEPOOL_PUT(table)                                                                                  \
    "INSERT INTO " table                                                                                     \
    " VALUES (?1, 1, ?2) ON CONFLICT (key) DO UPDATE SET version = version + 1, body = ?2"
inline constexpr const char* put_host = LANEPOOL_PUT("hosts");
inline constexpr const char* put_device = LANEPOOL_PUT("devices");
inline constexpr const char* put_loan = LANEPOOL_PUT("loans");
inline constexpr const char* put_step = LANEPOOL_PUT("steps");
inline constexpr const char* put_usage = LANEPOOL_PUT("usage");
inline constexpr const char* put_single = LANEPOOL_PUT("singles");
#undef LANEPOOL_PUT
inline constexpr const char* add_audit = "INSERT INTO audit VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
inline constexpr const char* set_audit_end =
    "UPDATE audit_ends SET sequence = ?2, hash = ?3 WHERE which = ?1";

} // namespace lanepool::store::sql
