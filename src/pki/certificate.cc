// SPDX-License-Identifier: Apache-2.0
#include "pki/certificate.h"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <openssl/ec.h>
#include <openssl/rand.h>

namespace lanepool::pki {

namespace {

constexpr size_t most_addresses = 16;

// What a certificate says, apart from who signs it.
struct Content {
    std::string common_name;
    std::string unit; // empty: none
    std::string serial;
    Validity validity;
    // In the words of OpenSSL's configuration, by NID.
    std::vector<std::pair<int, std::string>> extensions;
};

Result<IntegerPtr> to_asn1_serial(const std::string& serial) {
    BIGNUM* parsed = nullptr;
    const int digits = BN_hex2bn(&parsed, serial.c_str());
    const NumberPtr number(parsed);
    if (digits == 0 || static_cast<size_t>(digits) != serial.size())
        return fail(Errc::invalid_argument, "'{}' is no serial number: it is written in hexadecimal", serial);
    IntegerPtr result(BN_to_ASN1_INTEGER(number.get(), nullptr));
    if (!result) return fail_openssl(Errc::no_space, "writing a serial number");
    return result;
}

Result<> add_entry(X509_NAME* name, const char* field, const std::string& text) {
    const auto* octets = reinterpret_cast<const unsigned char*>(text.data());
    if (X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8, octets, static_cast<int>(text.size()), -1,
                                   0) != 1)
        return fail_openssl(Errc::internal, fmt::format("writing {}={}", field, text));
    return {};
}

Result<CertificatePtr> sign(const Content& content, EVP_PKEY* public_key, Signer signer) {
    CertificatePtr certificate(X509_new());
    if (!certificate) return fail_openssl(Errc::no_space, "making a certificate");
    X509* const made = certificate.get();
    // Who signs himself has no certificate yet: it is this one.
    X509* const issuer = signer.certificate ? signer.certificate : made;
    const auto serial = TRY(to_asn1_serial(content.serial));
    const auto from = TRY(to_asn1(content.validity.not_before_s));
    const auto until = TRY(to_asn1(content.validity.not_after_s));
    auto* subject = X509_get_subject_name(made);
    TRY(add_entry(subject, "CN", content.common_name));
    if (!content.unit.empty()) TRY(add_entry(subject, "OU", content.unit));
    if (X509_set_version(made, X509_VERSION_3) != 1 || X509_set_serialNumber(made, serial.get()) != 1 ||
        X509_set1_notBefore(made, from.get()) != 1 || X509_set1_notAfter(made, until.get()) != 1 ||
        X509_set_pubkey(made, public_key) != 1 ||
        X509_set_issuer_name(made, X509_get_subject_name(issuer)) != 1)
        return fail_openssl(Errc::internal, "making a certificate");
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, made, nullptr, nullptr, 0);
    for (const auto& [nid, value] : content.extensions) {
        const ExtensionPtr extension(X509V3_EXT_nconf_nid(nullptr, &context, nid, value.c_str()));
        if (!extension || X509_add_ext(made, extension.get(), -1) != 1)
            return fail_openssl(Errc::internal,
                                fmt::format("writing the extension {} = {}", OBJ_nid2sn(nid), value));
    }
    if (X509_sign(made, signer.key, EVP_sha256()) == 0)
        return fail_openssl(Errc::internal, "signing a certificate");
    return certificate;
}

std::string alternative_names(const Holder& holder) {
    std::string text = fmt::format("URI:lanepool:{}/{}", name(holder.role), holder.name);
    if (!holder.host.empty()) text += fmt::format(",URI:lanepool:host/{}", holder.host);
    for (const auto& dns : holder.dns)
        text += fmt::format(",DNS:{}", dns);
    for (const auto& ip : holder.ip)
        text += fmt::format(",IP:{}", ip);
    return text;
}

bool is_dns_name(std::string_view text) {
    return !text.empty() && text.size() <= 253 && text.front() != '.' && text.front() != '-' &&
           std::ranges::all_of(
               text, [](char c) { return c == '.' || c == '-' || is_name(std::string_view(&c, 1)); });
}

bool is_address(const std::string& text) {
    std::array<unsigned char, 16> address{};
    return inet_pton(AF_INET, text.c_str(), address.data()) == 1 ||
           inet_pton(AF_INET6, text.c_str(), address.data()) == 1;
}

Result<> add_revoked(X509_CRL* crl, const RevokedSerial& entry) {
    RevokedPtr revoked(X509_REVOKED_new());
    const auto serial = TRY(to_asn1_serial(entry.serial));
    const auto time = TRY(to_asn1(entry.revoked_s));
    if (!revoked || X509_REVOKED_set_serialNumber(revoked.get(), serial.get()) != 1 ||
        X509_REVOKED_set_revocationDate(revoked.get(), time.get()) != 1 ||
        X509_CRL_add0_revoked(crl, revoked.get()) != 1)
        return fail_openssl(Errc::internal, "adding to the list of revoked certificates");
    static_cast<void>(revoked.release()); // the list has it now
    return {};
}

} // namespace

Result<KeyPtr> make_key() {
    KeyPtr key(EVP_EC_gen("P-256"));
    if (!key) return fail_openssl(Errc::internal, "making a key");
    return key;
}

Result<std::string> make_serial() {
    std::array<unsigned char, 16> random{};
    if (RAND_bytes(random.data(), static_cast<int>(random.size())) != 1)
        return fail_openssl(Errc::internal, "making a serial number");
    // Positive in 16 octets, and of the same length always.
    random[0] = static_cast<unsigned char>((random[0] & 0x3f) | 0x40);
    std::string text;
    for (const unsigned char octet : random)
        text += fmt::format("{:02x}", octet);
    return text;
}

Result<CertificatePtr> make_ca_certificate(EVP_PKEY* key, const std::string& common_name,
                                           const std::string& serial, Validity validity) {
    const Content content{common_name,
                          "",
                          serial,
                          validity,
                          {{NID_basic_constraints, "critical,CA:TRUE,pathlen:0"},
                           {NID_key_usage, "critical,keyCertSign,cRLSign"},
                           {NID_subject_key_identifier, "hash"}}};
    return sign(content, key, {nullptr, key});
}

Result<> check(const Holder& holder) {
    const bool agent = holder.role == Role::agent;
    const bool controller = holder.role == Role::controller;
    if (!is_name(holder.name))
        return fail(Errc::invalid_argument,
                    "'{}' is no name: it takes 1 to 63 letters, digits, '.', '_' and '-', the first a letter "
                    "or digit",
                    holder.name);
    if (agent && !is_name(holder.host))
        return fail(Errc::invalid_argument, "'{}' is no name of a host", holder.host);
    if (!agent && !holder.host.empty())
        return fail(Errc::invalid_argument,
                    "only an agent's certificate names a host; leave it out for role {}", name(holder.role));
    if (!controller && !(holder.dns.empty() && holder.ip.empty()))
        return fail(Errc::invalid_argument,
                    "only a controller's certificate has DNS names and addresses; leave them out for role {}",
                    name(holder.role));
    if (holder.dns.size() + holder.ip.size() > most_addresses)
        return fail(Errc::invalid_argument, "a certificate takes at most {} DNS names and addresses",
                    most_addresses);
    for (const auto& dns : holder.dns)
        if (!is_dns_name(dns)) return fail(Errc::invalid_argument, "'{}' is no DNS name", dns);
    for (const auto& ip : holder.ip)
        if (!is_address(ip)) return fail(Errc::invalid_argument, "'{}' is no IP address", ip);
    return {};
}

Result<CertificatePtr> make_certificate(const Holder& holder, EVP_PKEY* public_key, const std::string& serial,
                                        Validity validity, Signer signer) {
    TRY(check(holder));
    // Controllers also call one another.
    const bool controller = holder.role == Role::controller;
    const Content content{holder.name,
                          fmt::format("lanepool {}", name(holder.role)),
                          serial,
                          validity,
                          {{NID_basic_constraints, "critical,CA:FALSE"},
                           {NID_key_usage, "critical,digitalSignature"},
                           {NID_ext_key_usage, controller ? "serverAuth,clientAuth" : "clientAuth"},
                           {NID_subject_key_identifier, "hash"},
                           {NID_authority_key_identifier, "keyid:always"},
                           {NID_subject_alt_name, alternative_names(holder)}}};
    return sign(content, public_key, signer);
}

Result<CrlPtr> make_crl(std::span<const RevokedSerial> revoked, uint64_t number, int64_t from_s,
                        Signer signer) {
    CrlPtr crl(X509_CRL_new());
    const auto from = TRY(to_asn1(from_s));
    if (!crl || X509_CRL_set_version(crl.get(), X509_CRL_VERSION_2) != 1 ||
        X509_CRL_set_issuer_name(crl.get(), X509_get_subject_name(signer.certificate)) != 1 ||
        X509_CRL_set1_lastUpdate(crl.get(), from.get()) != 1 ||
        X509_CRL_set1_nextUpdate(crl.get(), X509_get0_notAfter(signer.certificate)) != 1)
        return fail_openssl(Errc::internal, "making the list of revoked certificates");
    for (const auto& entry : revoked)
        TRY(add_revoked(crl.get(), entry));
    const IntegerPtr asn1_number(ASN1_INTEGER_new());
    if (!asn1_number || ASN1_INTEGER_set_uint64(asn1_number.get(), number) != 1 ||
        X509_CRL_add1_ext_i2d(crl.get(), NID_crl_number, asn1_number.get(), 0, 0) != 1)
        return fail_openssl(Errc::internal, "numbering the list of revoked certificates");
    X509V3_CTX context;
    X509V3_set_ctx(&context, signer.certificate, nullptr, nullptr, crl.get(), 0);
    const ExtensionPtr authority(
        X509V3_EXT_nconf_nid(nullptr, &context, NID_authority_key_identifier, "keyid:always"));
    if (!authority || X509_CRL_add_ext(crl.get(), authority.get(), -1) != 1 ||
        X509_CRL_sort(crl.get()) != 1 || X509_CRL_sign(crl.get(), signer.key, EVP_sha256()) == 0)
        return fail_openssl(Errc::internal, "signing the list of revoked certificates");
    return crl;
}

} // namespace lanepool::pki
