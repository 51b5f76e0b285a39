// SPDX-License-Identifier: Apache-2.0
//
// Where one's own certificate lies, for who only hands it on: api/tls.h reads it.
#pragma once

#include <filesystem>

namespace lanepool::api {

struct TlsFiles {
    std::filesystem::path ca;          // its certificate: ca.pem
    std::filesystem::path certificate; // one's own: NAME.pem
    std::filesystem::path key;         // of that certificate, readable by its owner alone: NAME.key

    bool operator==(const TlsFiles&) const = default;
};

} // namespace lanepool::api
