// SPDX-License-Identifier: Apache-2.0
//
// Messages that are packed structs of byte-order integers (endian.h), one after the other.
#pragma once

#include "base/result.h"

#include <cstddef>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

namespace lanepool {

template <class T>
void append_packed(std::vector<std::byte>& out, const T& fields) {
    static_assert(std::is_trivially_copyable_v<T> && alignof(T) == 1);
    const auto bytes = std::as_bytes(std::span(&fields, 1));
    out.insert(out.end(), bytes.begin(), bytes.end());
}

// The fixed part at the head of BODY. WHAT names the message, for example "a loan message". Errors: protocol
// (BODY is shorter).
template <class T>
Result<T> packed_head(std::span<const std::byte> body, std::string_view what) {
    static_assert(std::is_trivially_copyable_v<T> && alignof(T) == 1);
    T fields;
    if (body.size() < sizeof fields)
        return fail(Errc::protocol, "{} of {} bytes is shorter than its {} fixed ones", what, body.size(),
                    sizeof fields);
    std::memcpy(&fields, body.data(), sizeof fields);
    return fields;
}

} // namespace lanepool
