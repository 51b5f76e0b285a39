// SPDX-License-Identifier: Apache-2.0
//
// What OpenSSL itself says of a certificate, as a TLS server or client would ask it.
#pragma once

#include "pki/openssl.h"

#include <openssl/x509_vfy.h>

namespace lanepool::pki {

struct Verdict {
    int code = X509_V_ERR_UNSPECIFIED;
    std::string text;

    bool good() const { return code == X509_V_OK; }
};

// Verifies the first certificate of CHAIN_PEM at NOW_S, with CA_PEM as the only one that is trusted, and
// CRL_PEM.
inline Verdict verify(const std::string& chain_pem, const std::string& ca_pem, const std::string& crl_pem,
                      int64_t now_s, int purpose = X509_PURPOSE_SSL_CLIENT) {
    const std::unique_ptr<X509_STORE, Free<X509_STORE_free>> store(X509_STORE_new());
    const std::unique_ptr<X509_STORE_CTX, Free<X509_STORE_CTX_free>> context(X509_STORE_CTX_new());
    const auto leaf = read_certificate(chain_pem, "chain").value();
    const auto ca = read_certificate(ca_pem, "ca").value();
    const auto crl = read_crl(crl_pem, "crl").value();
    X509_STORE_add_cert(store.get(), ca.get());
    X509_STORE_add_crl(store.get(), crl.get());
    X509_STORE_CTX_init(context.get(), store.get(), leaf.get(), nullptr);
    auto* parameters = X509_STORE_CTX_get0_param(context.get());
    X509_VERIFY_PARAM_set_time(parameters, now_s);
    X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_X509_STRICT);
    X509_VERIFY_PARAM_set_purpose(parameters, purpose);
    X509_verify_cert(context.get());
    const int code = X509_STORE_CTX_get_error(context.get());
    return {code, X509_verify_cert_error_string(code)};
}

} // namespace lanepool::pki
