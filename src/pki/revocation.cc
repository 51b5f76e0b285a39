// SPDX-License-Identifier: Apache-2.0
#include "pki/revocation.h"

#include "pki/openssl.h"

namespace lanepool::pki {

Result<RevocationList> load_crl(std::string_view crl_pem, std::string_view ca_pem) {
    const auto crl = TRY(read_crl(crl_pem, "the list of revoked certificates"));
    const auto ca = TRY(read_certificate(ca_pem, "the CA's certificate"));
    if (X509_CRL_verify(crl.get(), X509_get0_pubkey(ca.get())) != 1)
        return fail_openssl(
            Errc::protocol,
            "the list of revoked certificates is not signed by this CA; take the crl.pem of its folder");
    std::unordered_set<std::string> serials;
    const auto* revoked = X509_CRL_get_REVOKED(crl.get());
    for (int i = 0; i < sk_X509_REVOKED_num(revoked); ++i)
        serials.insert(TRY(serial_text(X509_REVOKED_get0_serialNumber(sk_X509_REVOKED_value(revoked, i)))));
    const IntegerPtr number(
        static_cast<ASN1_INTEGER*>(X509_CRL_get_ext_d2i(crl.get(), NID_crl_number, nullptr, nullptr)));
    uint64_t value = 0;
    if (!number || ASN1_INTEGER_get_uint64(&value, number.get()) != 1)
        return fail(Errc::protocol, "the list of revoked certificates has no number that fits 64 bits");
    return RevocationList(value, std::move(serials));
}

Result<bool> is_revoked(const std::string& serial, std::string_view crl_pem, std::string_view ca_pem) {
    return TRY(load_crl(crl_pem, ca_pem)).revoked(serial);
}

} // namespace lanepool::pki
