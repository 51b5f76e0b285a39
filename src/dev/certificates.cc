// SPDX-License-Identifier: Apache-2.0
#include "dev/certificates.h"

#include "pki/authority.h"

#include <algorithm>
#include <ctime>

namespace lanepool::dev {

namespace {
constexpr int64_t day_s = 86400;
} // namespace

std::filesystem::path ca_folder(const std::filesystem::path& folder) { return folder / "ca"; }

Result<CertificateFiles> certificate_files(const std::filesystem::path& folder, const pki::Holder& holder) {
    const auto ca = ca_folder(folder);
    const int64_t now_s = std::time(nullptr);
    if (!std::filesystem::exists(ca / "index.json")) TRY(pki::Authority::init(ca, "lanepool-dev", now_s));
    auto authority = TRY(pki::Authority::open(ca));
    const auto of_holder = [&](const pki::Issued& issued) { return issued.holder.name == holder.name; };
    const auto& list = authority.issued();
    const auto newest = std::find_if(list.rbegin(), list.rend(), of_holder);
    if (newest == list.rend())
        TRY(authority.issue(holder, pki::default_days, now_s));
    else if (newest->validity.not_after_s < now_s + day_s) // of a cluster that is kept for long
        TRY(authority.renew(holder.name, pki::default_days, now_s));
    return CertificateFiles{ca / "ca.pem", authority.chain_path(holder.name), authority.key_path(holder.name),
                            ca / "crl.pem"};
}

} // namespace lanepool::dev
