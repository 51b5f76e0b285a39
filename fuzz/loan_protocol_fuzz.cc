// SPDX-License-Identifier: Apache-2.0
//
// The first byte chooses a message; the rest is its body. What is taken must encode to the same bytes.
#include "smartio/loan_protocol.h"

#include <algorithm>
#include <cstdlib>

using namespace lanepool;
using namespace lanepool::smartio;

namespace {

void require(bool condition) {
    if (!condition) std::abort();
}

template <class T>
void check(const Result<T>& decoded, Result<T> (*decode)(std::span<const std::byte>)) {
    if (!decoded) return;
    const auto again = decode(encode(*decoded));
    require(again.has_value() && *again == *decoded);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size == 0) return 0;
    const auto body = std::as_bytes(std::span(data, size)).subspan(1);
    switch (data[0] % 13) {
    case 0:
        return check(decode_map(body), decode_map), 0;
    case 1:
        return check(decode_unmap(body), decode_unmap), 0;
    case 2:
        return check(decode_set_irqs(body), decode_set_irqs), 0;
    case 3:
        return check(decode_mask_irq(body), decode_mask_irq), 0;
    case 4:
        return check(decode_config_write(body), decode_config_write), 0;
    case 5: {
        const auto key = decode_key(body);
        if (key) require(std::ranges::equal(encode_key(*key), body.first(24)));
        require(decode_bare(body).has_value() == (body.size() == 24));
        return 0;
    }
    case 6: {
        [[maybe_unused]] const auto kind = loan_request(static_cast<uint16_t>(body.size()));
        return 0;
    }
    case 8:
        return check(decode_place(body), decode_place), 0;
    case 9:
        return check(decode_placed(body), decode_placed), 0;
    case 10:
        return check(decode_create_segment(body), decode_create_segment), 0;
    case 11:
        return check(decode_segment(body), decode_segment), 0;
    case 12:
        return check(decode_connected_segment(body), decode_connected_segment), 0;
    default: {
        const auto opened = decode_opened(body);
        if (!opened) return 0;
        const auto again = encode(*opened);
        require(again.has_value());
        const auto twice = decode_opened(*again);
        require(twice.has_value() && *twice == *opened);
        return 0;
    }
    }
}
