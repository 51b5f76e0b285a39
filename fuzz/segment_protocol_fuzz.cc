// SPDX-License-Identifier: Apache-2.0
//
// The first byte chooses a message; the rest is its body. What is taken must encode to the same bytes.
#include "application/segment_protocol.h"

#include <algorithm>
#include <cstdlib>

using namespace lanepool;
using namespace lanepool::application;

namespace {
void require(bool condition) {
    if (!condition) std::abort();
}
} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size == 0) return 0;
    const auto body = std::as_bytes(std::span(data, size)).subspan(1);
    switch (data[0] % 4) {
    case 0:
        if (const auto connect = decode_connect(body)) require(std::ranges::equal(encode(*connect), body));
        break;
    case 1:
        if (const auto shown = decode_shown(body)) require(std::ranges::equal(encode(*shown), body));
        break;
    case 2:
        if (const auto shown = decode_shown_interrupt(body))
            require(std::ranges::equal(encode(*shown), body));
        break;
    default:
        if (const auto ids = decode_ids(body)) require(std::ranges::equal(encode_ids(*ids), body));
        break;
    }
    return 0;
}
