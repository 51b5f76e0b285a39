// SPDX-License-Identifier: Apache-2.0
//
// What a shared drive's manager and clients say to each other, and the file of its rules.
#include "share/client_rules.h"
#include "share/messages.h"

#include <cstdlib>

using namespace lanepool;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const auto bytes = std::as_bytes(std::span(data, size));
    // What was understood is understood the same way again.
    if (const auto request = sharing::decode_request(bytes)) {
        const auto again = sharing::decode_request(sharing::encode(*request));
        if (!again || again->token != request->token || again->join.has_value() != request->join.has_value())
            std::abort();
    }
    if (const auto answer = sharing::decode_answer(bytes)) {
        const auto again = sharing::decode_answer(sharing::encode(*answer));
        if (!again || again->outcome.has_value() != answer->outcome.has_value()) std::abort();
    }
    sharing::DriveFacts facts{};
    facts.namespaces = 1;
    facts.space[0] = {1, 512, 1000};
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    if (const auto rules = sharing::ClientRules::parse(text, "f"); rules && rules->check(facts))
        if (const auto grant = rules->decide("a", "b", facts))
            if (grant->part.blocks == 0 || grant->part.first_block + grant->part.blocks > 1000) std::abort();
    return 0;
}
