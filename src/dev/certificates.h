// SPDX-License-Identifier: Apache-2.0
//
// The CA of an embedded cluster whose hosts are reached over TCP.
#pragma once

#include "pki/certificate.h"

#include <filesystem>

namespace lanepool::dev {

std::filesystem::path ca_folder(const std::filesystem::path& folder);

struct CertificateFiles {
    std::filesystem::path ca, certificate, key, revoked;
};
// Those of HOLDER in the cluster in FOLDER; CA and certificate are made when first asked for.
Result<CertificateFiles> certificate_files(const std::filesystem::path& folder, const pki::Holder& holder);

} // namespace lanepool::dev
