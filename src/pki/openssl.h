// SPDX-License-Identifier: Apache-2.0
//
// OpenSSL's objects, given back by themselves, and its errors as ours.
#pragma once

#include "base/result.h"

#include <memory>
#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string>
#include <string_view>

namespace lanepool::pki {

template <auto free_function>
struct Free {
    template <class T>
    void operator()(T* object) const {
        free_function(object);
    }
};

using KeyPtr = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;
using CertificatePtr = std::unique_ptr<X509, Free<X509_free>>;
using CrlPtr = std::unique_ptr<X509_CRL, Free<X509_CRL_free>>;
using RevokedPtr = std::unique_ptr<X509_REVOKED, Free<X509_REVOKED_free>>;
using ExtensionPtr = std::unique_ptr<X509_EXTENSION, Free<X509_EXTENSION_free>>;
using NamesPtr = std::unique_ptr<GENERAL_NAMES, Free<GENERAL_NAMES_free>>;
using IntegerPtr = std::unique_ptr<ASN1_INTEGER, Free<ASN1_INTEGER_free>>;
using TimePtr = std::unique_ptr<ASN1_TIME, Free<ASN1_TIME_free>>;
using NumberPtr = std::unique_ptr<BIGNUM, Free<BN_free>>;
using BioPtr = std::unique_ptr<BIO, Free<BIO_free_all>>;

// "WHAT: the library's reason", which is taken out of its queue.
[[nodiscard]] tl::unexpected<Error> fail_openssl(Errc code, std::string_view what);

// PEM texts, of at most 64 KiB (a CRL: 64 MiB). Reading takes the first one of its kind, never asks anybody
// for a password, and calls the text WHAT in errors (protocol).
Result<CertificatePtr> read_certificate(std::string_view pem, std::string_view what);
Result<CrlPtr> read_crl(std::string_view pem, std::string_view what);
Result<KeyPtr> read_key(std::string_view pem, std::string_view what);
Result<std::string> to_pem(X509* certificate);
Result<std::string> to_pem(X509_CRL* crl);
Result<std::string> to_pem(EVP_PKEY* key);

// Lower-case hexadecimal without leading zeros. Errors: protocol, when it is negative or longer than the 20
// octets of RFC 5280, section 4.1.2.2.
Result<std::string> serial_text(const ASN1_INTEGER* serial);
Result<int64_t> unix_time_s(const ASN1_TIME* time);
Result<TimePtr> to_asn1(int64_t unix_time_s);

} // namespace lanepool::pki
