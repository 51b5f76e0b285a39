// SPDX-License-Identifier: Apache-2.0
//
// Makes keys, certificates and lists of revoked ones, by OpenSSL: ECDSA over P-256 with SHA-256. Pure: no
// clock and no files; times are Unix times.
#pragma once

#include "pki/identity.h"
#include "pki/openssl.h"

#include <span>
#include <string>
#include <utility>
#include <vector>

namespace lanepool::pki {

Result<KeyPtr> make_key();
// 127 random bits, as serial_text() gives them.
Result<std::string> make_serial();

struct Validity {
    int64_t not_before_s = 0;
    int64_t not_after_s = 0;
};

// A certificate of KEY by itself, that may sign others but no other CA.
Result<CertificatePtr> make_ca_certificate(EVP_PKEY* key, const std::string& common_name,
                                           const std::string& serial, Validity validity);

// Whom a certificate is for. Everything in it has been checked: names by is_name(), the others by check().
struct Holder {
    std::string name;
    Role role = Role::user;
    std::string host;             // of an agent
    std::vector<std::string> dns; // of a controller: what its clients call it
    std::vector<std::string> ip;

    bool operator==(const Holder&) const = default;
};
// Errors: invalid_argument.
Result<> check(const Holder& holder);

struct Signer {
    X509* certificate = nullptr;
    EVP_PKEY* key = nullptr;
};

// PUBLIC_KEY is all that is needed of the holder's key.
Result<CertificatePtr> make_certificate(const Holder& holder, EVP_PKEY* public_key, const std::string& serial,
                                        Validity validity, Signer signer);

struct RevokedSerial {
    std::string serial;
    int64_t revoked_s = 0;
};
// Good from FROM_S for as long as the CA is: a pool must not stop because nobody has made a new list.
Result<CrlPtr> make_crl(std::span<const RevokedSerial> revoked, uint64_t number, int64_t now_s,
                        Signer signer);

} // namespace lanepool::pki
