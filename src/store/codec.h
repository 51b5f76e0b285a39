// SPDX-License-Identifier: Apache-2.0
//
// The one serialization of every record, for all stores: bytes as records.proto describes them. Pure; any
// thread. What is not stored (a host's `up`, fields named *_steady_us) comes back as it is in a new record.
#pragma once

#include "base/result.h"
#include "pool/records.h"

#include <string>
#include <string_view>

namespace lanepool::store {

std::string encode(const pool::Host& host);
std::string encode(const pool::Device& device);
std::string encode(const pool::Loan& loan);
std::string encode(const pool::Step& step);
std::string encode(const pool::Usage& usage);
std::string encode(const pool::Counters& counters);
std::string encode(const pool::AuditEntry& entry);
std::string encode_site(std::string_view text);

// io: they are no such record, or one with a state that this program does not know (the message names it).
// T is one of the types above.
template <class T>
Result<T> decode(std::string_view bytes);
Result<std::string> decode_site(std::string_view bytes);

} // namespace lanepool::store
