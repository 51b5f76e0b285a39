// SPDX-License-Identifier: Apache-2.0
#include "pki/openssl.h"

#include "pki/file.h"

#include <algorithm>
#include <cctype>
#include <ctime>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>

namespace lanepool::pki {

namespace {

// Without it OpenSSL asks for the password of an encrypted file at the terminal.
int no_password(char*, int, int, void*) { return -1; }

Result<BioPtr> reader(std::string_view pem, size_t limit, std::string_view what) {
    if (pem.size() > limit)
        return fail(Errc::protocol, "{} has {} bytes; at most {} are taken", what, pem.size(), limit);
    BioPtr bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
    if (!bio) return fail_openssl(Errc::no_space, "reading PEM");
    return bio;
}

template <class Write>
Result<std::string> written(Write write) {
    BioPtr bio(BIO_new(BIO_s_mem()));
    if (!bio || write(bio.get()) != 1) return fail_openssl(Errc::internal, "writing PEM");
    char* data = nullptr;
    const long size = BIO_get_mem_data(bio.get(), &data);
    return std::string(data, static_cast<size_t>(size));
}

} // namespace

tl::unexpected<Error> fail_openssl(Errc code, std::string_view what) {
    const unsigned long first = ERR_get_error();
    const char* reason = first == 0 ? nullptr : ERR_reason_error_string(first);
    ERR_clear_error();
    return fail(code, "{}: {}", what, reason ? reason : "OpenSSL gives no reason");
}

Result<CertificatePtr> read_certificate(std::string_view pem, std::string_view what) {
    const auto bio = TRY(reader(pem, most_pem_bytes, what));
    CertificatePtr certificate(PEM_read_bio_X509(bio.get(), nullptr, no_password, nullptr));
    if (!certificate) return fail_openssl(Errc::protocol, fmt::format("{} is no certificate in PEM", what));
    return certificate;
}

Result<CrlPtr> read_crl(std::string_view pem, std::string_view what) {
    const auto bio = TRY(reader(pem, most_crl_bytes, what));
    CrlPtr crl(PEM_read_bio_X509_CRL(bio.get(), nullptr, no_password, nullptr));
    if (!crl)
        return fail_openssl(Errc::protocol,
                            fmt::format("{} is no list of revoked certificates in PEM", what));
    return crl;
}

Result<KeyPtr> read_key(std::string_view pem, std::string_view what) {
    const auto bio = TRY(reader(pem, most_pem_bytes, what));
    KeyPtr key(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_password, nullptr));
    if (!key)
        return fail_openssl(Errc::protocol, fmt::format("{} is no key in PEM without a password", what));
    return key;
}

Result<std::string> to_pem(X509* certificate) {
    return written([&](BIO* bio) { return PEM_write_bio_X509(bio, certificate); });
}

Result<std::string> to_pem(X509_CRL* crl) {
    return written([&](BIO* bio) { return PEM_write_bio_X509_CRL(bio, crl); });
}

Result<std::string> to_pem(EVP_PKEY* key) {
    return written(
        [&](BIO* bio) { return PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr); });
}

Result<std::string> serial_text(const ASN1_INTEGER* serial) {
    constexpr int most_octets = 20;
    const NumberPtr number(ASN1_INTEGER_to_BN(serial, nullptr));
    if (!number) return fail_openssl(Errc::protocol, "reading a serial number");
    if (BN_is_negative(number.get()) || BN_num_bytes(number.get()) > most_octets)
        return fail(Errc::protocol, "a serial number is negative or longer than {} octets", most_octets);
    const std::unique_ptr<char, Free<[](void* text) { OPENSSL_free(text); }>> hex(BN_bn2hex(number.get()));
    if (!hex) return fail_openssl(Errc::no_space, "reading a serial number");
    std::string text(hex.get());
    std::ranges::transform(text, text.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    text.erase(0, std::min(text.find_first_not_of('0'), text.size() - 1));
    return text;
}

Result<int64_t> unix_time_s(const ASN1_TIME* time) {
    std::tm fields{};
    if (!time || ASN1_TIME_to_tm(time, &fields) != 1) return fail_openssl(Errc::protocol, "reading a time");
    return timegm(&fields);
}

Result<TimePtr> to_asn1(int64_t unix_time_s) {
    TimePtr time(ASN1_TIME_set(nullptr, unix_time_s));
    if (!time) return fail_openssl(Errc::out_of_range, fmt::format("writing the time {}", unix_time_s));
    return time;
}

} // namespace lanepool::pki
