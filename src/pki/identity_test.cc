// SPDX-License-Identifier: Apache-2.0
#include "pki/identity.h"

#include "pki/certificate.h"
#include "pki/revocation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/pem.h>

namespace lanepool::pki {
namespace {

using testing::HasSubstr;

constexpr Validity validity{1'800'000'000, 1'900'000'000};

struct Ca {
    KeyPtr key = make_key().value();
    CertificatePtr certificate = make_ca_certificate(key.get(), "ca", "1", validity).value();

    Signer signer() const { return {certificate.get(), key.get()}; }
    std::string pem() const { return to_pem(certificate.get()).value(); }
};

// A certificate that no command issues.
std::string strange(std::string_view common_name, std::string_view unit,
                    const std::vector<std::pair<int, std::string>>& extensions,
                    std::string_view second_name = "") {
    const Ca ca;
    const CertificatePtr certificate(X509_new());
    auto* subject = X509_get_subject_name(certificate.get());
    const auto add = [&](const char* field, std::string_view text) {
        X509_NAME_add_entry_by_txt(subject, field, MBSTRING_UTF8,
                                   reinterpret_cast<const unsigned char*>(text.data()),
                                   static_cast<int>(text.size()), -1, 0);
    };
    add("CN", common_name);
    add("OU", unit);
    if (!second_name.empty()) add("CN", second_name);
    X509_set_version(certificate.get(), X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 2);
    X509_set1_notBefore(certificate.get(), to_asn1(validity.not_before_s).value().get());
    X509_set1_notAfter(certificate.get(), to_asn1(validity.not_after_s).value().get());
    X509_set_pubkey(certificate.get(), ca.key.get());
    X509_set_issuer_name(certificate.get(), X509_get_subject_name(ca.certificate.get()));
    for (const auto& [nid, value] : extensions) {
        const ExtensionPtr extension(X509V3_EXT_nconf_nid(nullptr, nullptr, nid, value.c_str()));
        X509_add_ext(certificate.get(), extension.get(), -1);
    }
    X509_sign(certificate.get(), ca.key.get(), EVP_sha256());
    return to_pem(certificate.get()).value();
}

std::string with_names(const std::string& alternative_names) {
    return strange("eve", "lanepool user", {{NID_subject_alt_name, alternative_names}});
}

std::string refusal(std::string_view pem) {
    const auto identity = identity_of(pem);
    EXPECT_FALSE(identity.has_value());
    if (identity) return "";
    EXPECT_EQ(identity.error().code(), Errc::protocol);
    return identity.error().message();
}

TEST(Identity, IsReadFromWhatIsIssued) {
    const Ca ca;
    const auto key = make_key().value();
    for (const Role role : roles) {
        const Holder holder{"x.y-z_1", role, role == Role::agent ? "h" : "", {}, {}};
        const auto certificate = make_certificate(holder, key.get(), "abc", validity, ca.signer()).value();
        const auto identity = identity_of(to_pem(certificate.get()).value());
        ASSERT_TRUE(identity.has_value()) << identity.error().message();
        EXPECT_EQ(*identity, (PeerIdentity{role, "x.y-z_1", holder.host, "abc", validity.not_after_s}));
    }
}

TEST(Identity, IsThatOfTheFirstCertificate) {
    const Ca ca;
    EXPECT_EQ(identity_of(with_names("URI:lanepool:user/eve") + ca.pem()).value().name, "eve");
}

TEST(Identity, OtherAlternativeNamesAreNotRead) {
    EXPECT_EQ(
        identity_of(with_names("DNS:x,URI:https://x/lanepool:admin/eve,URI:lanepool:user/eve")).value().role,
        Role::user);
}

TEST(Identity, TextThatIsNoCertificateIsRefused) {
    for (const auto* text : {"", "x", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
                             "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"})
        EXPECT_THAT(refusal(text), HasSubstr("no certificate in PEM")) << text;
}

TEST(Identity, TextThatIsTooLongIsRefused) {
    EXPECT_THAT(refusal(std::string(65537, 'x')), HasSubstr("at most 65536"));
}

TEST(Identity, ACaIsNobody) { EXPECT_THAT(refusal(Ca().pem()), HasSubstr("that of a CA")); }

TEST(Identity, ACertificateWithoutAlternativeNamesIsRefused) {
    EXPECT_THAT(refusal(strange("eve", "lanepool user", {})), HasSubstr("no readable alternative names"));
}

TEST(Identity, ACertificateWithTwoListsOfAlternativeNamesIsRefused) {
    EXPECT_THAT(refusal(strange("eve", "lanepool user",
                                {{NID_subject_alt_name, "URI:lanepool:user/eve"},
                                 {NID_subject_alt_name, "URI:lanepool:admin/eve"}})),
                HasSubstr("no readable alternative names"));
}

TEST(Identity, ACertificateOfSomebodyElsesIsRefused) {
    EXPECT_THAT(refusal(with_names("DNS:eve")), HasSubstr("no alternative name lanepool:ROLE/NAME"));
}

TEST(Identity, TwoIdentitiesAreRefused) {
    EXPECT_THAT(refusal(with_names("URI:lanepool:user/eve,URI:lanepool:admin/eve")),
                HasSubstr("says twice who it is"));
}

TEST(Identity, UnknownRolesAreRefused) {
    EXPECT_THAT(refusal(with_names("URI:lanepool:root/eve")), HasSubstr("not lanepool:ROLE/NAME"));
}

TEST(Identity, NamesThatAreNoneAreRefused) {
    for (const auto* uri :
         {"URI:lanepool:user/", "URI:lanepool:user", "URI:lanepool:user/a/b", "URI:lanepool:user/a%20b"})
        EXPECT_THAT(refusal(with_names(uri)), HasSubstr("not lanepool:ROLE/NAME")) << uri;
}

TEST(Identity, ASubjectOfAnotherNameIsRefused) {
    EXPECT_THAT(refusal(strange("ada", "lanepool user", {{NID_subject_alt_name, "URI:lanepool:user/eve"}})),
                HasSubstr("somebody else"));
}

TEST(Identity, ASubjectOfAnotherRoleIsRefused) {
    EXPECT_THAT(refusal(strange("eve", "lanepool admin", {{NID_subject_alt_name, "URI:lanepool:user/eve"}})),
                HasSubstr("somebody else"));
}

TEST(Identity, ANameWithAZeroInItIsRefused) {
    EXPECT_THAT(refusal(strange(std::string_view("eve\0x", 5), "lanepool user",
                                {{NID_subject_alt_name, "URI:lanepool:user/eve"}})),
                HasSubstr("somebody else"));
}

TEST(Identity, ASubjectOfTwoNamesIsRefused) {
    EXPECT_THAT(
        refusal(strange("eve", "lanepool user", {{NID_subject_alt_name, "URI:lanepool:user/eve"}}, "ada")),
        HasSubstr("does not have one common name"));
}

TEST(Identity, AnAgentWithoutAHostIsRefused) {
    EXPECT_THAT(refusal(strange("a", "lanepool agent", {{NID_subject_alt_name, "URI:lanepool:agent/a"}})),
                HasSubstr("names a host"));
}

TEST(Identity, AUserWithAHostIsRefused) {
    EXPECT_THAT(refusal(with_names("URI:lanepool:user/eve,URI:lanepool:host/store1")),
                HasSubstr("names a host"));
}

TEST(Roles, HaveNames) {
    for (const Role role : roles)
        EXPECT_EQ(role_named(name(role)), role);
    EXPECT_FALSE(role_named("host"));
}

TEST(RevocationList, KnowsWhoIsRevoked) {
    const Ca ca;
    const std::vector<RevokedSerial> revoked{{"ab", 1'800'000'100},
                                             {"7fffffffffffffffffffffffffffffffffffffff", 1'800'000'200}};
    const auto crl = make_crl(revoked, 7, 1'800'000'300, ca.signer()).value();
    const auto list = load_crl(to_pem(crl.get()).value(), ca.pem());
    ASSERT_TRUE(list.has_value()) << list.error().message();
    EXPECT_TRUE(list->revoked("ab"));
    EXPECT_TRUE(list->revoked("7fffffffffffffffffffffffffffffffffffffff"));
    EXPECT_FALSE(list->revoked("ac"));
    EXPECT_EQ(list->number(), 7U);
}

TEST(RevocationList, OfAnotherCaIsRefused) {
    const Ca ca;
    const Ca other;
    const auto crl = make_crl({}, 1, 1'800'000'000, other.signer()).value();
    const auto list = load_crl(to_pem(crl.get()).value(), ca.pem());
    ASSERT_FALSE(list.has_value());
    EXPECT_THAT(list.error().message(), HasSubstr("not signed by this CA"));
}

TEST(RevocationList, TextThatIsNoneIsRefused) {
    const Ca ca;
    for (const std::string& text : {std::string(), std::string("x"), ca.pem()})
        EXPECT_EQ(is_revoked("ab", text, ca.pem()).error().code(), Errc::protocol);
}

TEST(Certificate, SerialNumbersAreNotGuessed) {
    const auto a = make_serial().value();
    const auto b = make_serial().value();
    EXPECT_EQ(a.size(), 32U);
    EXPECT_NE(a, b);
}

TEST(Certificate, KeysWithAPasswordAreRefusedAndNobodyIsAsked) {
    const auto key = make_key().value();
    const BioPtr bio(BIO_new(BIO_s_mem()));
    ASSERT_EQ(
        PEM_write_bio_PKCS8PrivateKey(bio.get(), key.get(), EVP_aes_128_cbc(), "secret", 6, nullptr, nullptr),
        1);
    char* data = nullptr;
    const long size = BIO_get_mem_data(bio.get(), &data);
    const auto read = read_key(std::string_view(data, static_cast<size_t>(size)), "ca.key");
    ASSERT_FALSE(read.has_value());
    EXPECT_THAT(read.error().message(), HasSubstr("ca.key is no key in PEM without a password"));
}

} // namespace
} // namespace lanepool::pki
