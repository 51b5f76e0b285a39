// SPDX-License-Identifier: Apache-2.0
//
// The first byte chooses: a chain or a list of revoked certificates, as PEM or as the DER within. An identity
// that is taken is one that the controller may rely on.
#include "pki/certificate.h"
#include "pki/identity.h"
#include "pki/openssl.h"
#include "pki/revocation.h"

#include <algorithm>
#include <cstdlib>
#include <openssl/evp.h>

using namespace lanepool;

namespace {

void require(bool condition) {
    if (!condition) std::abort();
}

std::string in_pem(std::string_view der, std::string_view label) {
    std::string base64(4 * ((der.size() + 2) / 3) + 1, '\0');
    const int length =
        EVP_EncodeBlock(reinterpret_cast<unsigned char*>(base64.data()),
                        reinterpret_cast<const unsigned char*>(der.data()), static_cast<int>(der.size()));
    base64.resize(static_cast<size_t>(length));
    std::string pem = fmt::format("-----BEGIN {}-----\n", label);
    for (size_t at = 0; at < base64.size(); at += 64)
        pem += base64.substr(at, 64) + "\n";
    return pem + fmt::format("-----END {}-----\n", label);
}

void check_identity(std::string_view pem) {
    const auto identity = pki::identity_of(pem);
    if (!identity) return require(!identity.error().message().empty());
    require(pki::is_name(identity->name) && !identity->serial.empty() && identity->serial.size() <= 40);
    require((identity->role == pki::Role::agent) == pki::is_name(identity->host));
}

// Nobody's signature is the CA's; and what lies behind it is looked at as if it were.
void check_signed(std::string_view pem, X509_CRL* crl) {
    static const auto key = pki::make_key().value();
    static const auto ca = pki::make_ca_certificate(key.get(), "ca", "1", {0, 4'000'000'000}).value();
    static const std::string ca_pem = pki::to_pem(ca.get()).value();
    require(!pki::load_crl(pem, ca_pem));
    if (X509_CRL_sign(crl, key.get(), EVP_sha256()) == 0) return;
    const auto signed_pem = pki::to_pem(crl);
    const auto list = signed_pem ? pki::load_crl(*signed_pem, ca_pem)
                                 : Result<pki::RevocationList>(tl::unexpected<Error>(signed_pem.error()));
    require(!list ||
            list->size() <= static_cast<size_t>(std::max(0, sk_X509_REVOKED_num(X509_CRL_get_REVOKED(crl)))));
}

void check_list(std::string_view pem) {
    const auto crl = pki::read_crl(pem, "fuzzed");
    if (!crl) return;
    const auto* revoked = X509_CRL_get_REVOKED(crl->get());
    for (int i = 0; i < sk_X509_REVOKED_num(revoked); ++i) {
        const auto serial =
            pki::serial_text(X509_REVOKED_get0_serialNumber(sk_X509_REVOKED_value(revoked, i)));
        require(!serial || (!serial->empty() && serial->size() <= 40));
    }
    check_signed(pem, crl->get());
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size == 0) return 0;
    const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
    switch (data[0] % 4) {
    case 0:
        return check_identity(rest), 0;
    case 1:
        return check_identity(in_pem(rest, "CERTIFICATE")), 0;
    case 2:
        return check_list(rest), 0;
    default:
        return check_list(in_pem(rest, "X509 CRL")), 0;
    }
}
