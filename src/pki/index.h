// SPDX-License-Identifier: Apache-2.0
//
// What a CA has issued and revoked, as its folder keeps it: index.json.
#pragma once

#include "pki/certificate.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lanepool::pki {

struct Issued {
    Holder holder;
    std::string serial; // lower-case hexadecimal
    Validity validity;
    int64_t revoked_s = 0; // Unix time; 0: it is not

    bool revoked() const { return revoked_s != 0; }
};

struct Index {
    uint64_t crl_number = 0;    // of the list of revoked certificates that belongs to it
    std::vector<Issued> issued; // the oldest first
};

inline constexpr size_t most_issued = 100'000;

std::string to_text(const Index& index);
// WHAT is what the text is called in errors: protocol.
Result<Index> parse_index(std::string_view text, std::string_view what);

} // namespace lanepool::pki
