// SPDX-License-Identifier: Apache-2.0
#include "pki/authority.h"

#include "base/temporary_folder.h"
#include "pki/revocation.h"
#include "pki/test_verifier.h"

#include <cstdlib>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

namespace lanepool::pki {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr int64_t now_s = 1'800'000'000;
constexpr int64_t day_s = 86400;

std::string text_of(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

mode_t mode_of(const fs::path& path) {
    struct stat status {};
    EXPECT_EQ(::stat(path.c_str(), &status), 0) << path;
    return status.st_mode & 0777;
}

class AuthorityTest : public testing::Test {
  protected:
    AuthorityTest() { ca_ = root_ / "ca"; }

    void init() { ASSERT_TRUE(Authority::init(ca_, "test-ca", now_s).has_value()); }
    Authority open() { return Authority::open(ca_).value(); }
    Result<Issued> issue(const std::string& name, Role role, int days = default_days, int64_t at_s = now_s) {
        auto authority = TRY(Authority::open(ca_));
        return authority.issue({name, role, "", {}, {}}, days, at_s);
    }
    Result<Issued> renew(const std::string& name, int64_t at_s = now_s) {
        return TRY(Authority::open(ca_)).renew(name, default_days, at_s);
    }
    Result<std::vector<Issued>> revoke(const std::string& what, int64_t at_s = now_s) {
        return TRY(Authority::open(ca_)).revoke(what, at_s);
    }
    std::string chain(const std::string& name) { return text_of(ca_ / "issued" / (name + ".pem")); }
    std::string ca_pem() { return text_of(ca_ / "ca.pem"); }
    std::string crl_pem() { return text_of(ca_ / "crl.pem"); }
    Verdict verdict(const std::string& name, int64_t at_s = now_s, int purpose = X509_PURPOSE_SSL_CLIENT) {
        return verify(chain(name), ca_pem(), crl_pem(), at_s, purpose);
    }

    TemporaryFolder root_;
    fs::path ca_;
};

TEST_F(AuthorityTest, ACaIsAFolderThatOnlyItsOwnerReads) {
    init();
    EXPECT_EQ(mode_of(ca_), 0700U);
    EXPECT_EQ(mode_of(ca_ / "ca.key"), 0600U);
    EXPECT_THAT(text_of(ca_ / "ca.key"), HasSubstr("BEGIN PRIVATE KEY"));
}

TEST_F(AuthorityTest, TheKeyOfACaIsEcdsaOverP256) {
    init();
    const auto key = read_key(text_of(ca_ / "ca.key"), "key").value();
    std::array<char, 32> group{};
    ASSERT_EQ(EVP_PKEY_get_group_name(key.get(), group.data(), group.size(), nullptr), 1);
    EXPECT_STREQ(group.data(), "prime256v1");
}

TEST_F(AuthorityTest, ACaIsGoodForTenYears) {
    init();
    const auto certificate = read_certificate(ca_pem(), "ca").value();
    EXPECT_EQ(unix_time_s(X509_get0_notAfter(certificate.get())).value(), now_s + ca_days * day_s);
    EXPECT_EQ(X509_check_ca(certificate.get()), 1);
}

TEST_F(AuthorityTest, ANewCaHasRevokedNobody) {
    init();
    EXPECT_EQ(load_crl(crl_pem(), ca_pem()).value().size(), 0U);
}

TEST_F(AuthorityTest, ACaIsNotOverwritten) {
    init();
    const std::string key = text_of(ca_ / "ca.key");
    const auto again = Authority::init(ca_, "other", now_s);
    ASSERT_FALSE(again.has_value());
    EXPECT_EQ(again.error().code(), Errc::already_exists);
    EXPECT_EQ(text_of(ca_ / "ca.key"), key);
}

TEST_F(AuthorityTest, ACaWithoutANameIsNotMade) {
    EXPECT_EQ(Authority::init(ca_, "two words", now_s).error().code(), Errc::invalid_argument);
    EXPECT_FALSE(fs::exists(ca_));
}

TEST_F(AuthorityTest, AFolderWithoutACaIsToldHowToMakeOne) {
    const auto authority = Authority::open(ca_);
    ASSERT_FALSE(authority.has_value());
    EXPECT_EQ(authority.error().code(), Errc::not_found);
    EXPECT_THAT(authority.error().message(), HasSubstr("lanepool pki init"));
}

TEST_F(AuthorityTest, OneCommandAtATimeWorksOnAFolder) {
    init();
    const auto first = open();
    EXPECT_EQ(Authority::open(ca_).error().code(), Errc::busy);
}

TEST_F(AuthorityTest, OpensslTrustsWhatIsIssuedToEveryRole) {
    init();
    for (const Role role : roles) {
        const std::string holder = fmt::format("some-{}", name(role));
        ASSERT_TRUE(issue(holder, role).has_value());
        EXPECT_TRUE(verdict(holder).good()) << verdict(holder).text;
    }
}

TEST_F(AuthorityTest, OnlyAControllerIsAServer) {
    init();
    ASSERT_TRUE(issue("c", Role::controller).has_value());
    ASSERT_TRUE(issue("a", Role::agent).has_value());
    EXPECT_TRUE(verdict("c", now_s, X509_PURPOSE_SSL_SERVER).good());
    EXPECT_EQ(verdict("a", now_s, X509_PURPOSE_SSL_SERVER).code, X509_V_ERR_INVALID_PURPOSE);
}

TEST_F(AuthorityTest, AControllerIsCalledByItsDnsNamesAndAddresses) {
    init();
    ASSERT_TRUE(
        open()
            .issue({"c", Role::controller, "", {"pool.example"}, {"192.0.2.7", "2001:db8::7"}}, 1, now_s)
            .has_value());
    const auto certificate = read_certificate(chain("c"), "c").value();
    EXPECT_EQ(X509_check_host(certificate.get(), "pool.example", 0, 0, nullptr), 1);
    EXPECT_EQ(X509_check_ip_asc(certificate.get(), "192.0.2.7", 0), 1);
    EXPECT_EQ(X509_check_ip_asc(certificate.get(), "2001:db8::7", 0), 1);
    EXPECT_EQ(X509_check_host(certificate.get(), "c", 0, 0, nullptr), 0);
}

TEST_F(AuthorityTest, AControllerWithoutAddressesIsCalledByItsName) {
    init();
    ASSERT_TRUE(issue("pool1", Role::controller).has_value());
    const auto certificate = read_certificate(chain("pool1"), "c").value();
    EXPECT_EQ(X509_check_host(certificate.get(), "pool1", 0, 0, nullptr), 1);
}

TEST_F(AuthorityTest, WhatIsIssuedSaysWhoItIs) {
    init();
    const auto issued = open().issue({"store-agent", Role::agent, "store1", {}, {}}, 30, now_s).value();
    const auto identity = identity_of(chain("store-agent"));
    ASSERT_TRUE(identity.has_value()) << identity.error().message();
    EXPECT_EQ(*identity,
              (PeerIdentity{Role::agent, "store-agent", "store1", issued.serial, now_s + 30 * day_s}));
}

TEST_F(AuthorityTest, AnAgentSpeaksForTheHostOfItsNameUnlessItIsToldOtherwise) {
    init();
    ASSERT_TRUE(issue("store1", Role::agent).has_value());
    EXPECT_EQ(identity_of(chain("store1")).value().host, "store1");
}

TEST_F(AuthorityTest, TheChainHasTheCa) {
    init();
    ASSERT_TRUE(issue("eve", Role::user).has_value());
    EXPECT_TRUE(chain("eve").ends_with(ca_pem()));
}

TEST_F(AuthorityTest, TheKeyOfACertificateIsItsOwnAndPrivate) {
    init();
    ASSERT_TRUE(issue("eve", Role::user).has_value());
    const auto path = ca_ / "issued" / "eve.key";
    EXPECT_EQ(mode_of(path), 0600U);
    const auto certificate = read_certificate(chain("eve"), "c").value();
    EXPECT_EQ(X509_check_private_key(certificate.get(), read_key(text_of(path), "key").value().get()), 1);
}

TEST_F(AuthorityTest, OpensslRefusesWhatHasExpired) {
    init();
    ASSERT_TRUE(issue("eve", Role::user, 10).has_value());
    EXPECT_TRUE(verdict("eve", now_s + 10 * day_s - 1).good());
    EXPECT_EQ(verdict("eve", now_s + 10 * day_s + 1).code, X509_V_ERR_CERT_HAS_EXPIRED);
}

TEST_F(AuthorityTest, OpensslTrustsItOnAHostWhoseClockIsALittleSlow) {
    init();
    ASSERT_TRUE(issue("eve", Role::user).has_value());
    EXPECT_TRUE(verdict("eve", now_s - 299).good());
    EXPECT_EQ(verdict("eve", now_s - 301).code, X509_V_ERR_CERT_NOT_YET_VALID);
}

TEST_F(AuthorityTest, ANewListDoesNotStopAHostWhoseClockIsSlow) {
    init();
    ASSERT_TRUE(issue("eve", Role::user).has_value());
    ASSERT_TRUE(issue("tom", Role::user).has_value());
    ASSERT_TRUE(revoke("tom", now_s + 10 * day_s).has_value());
    EXPECT_TRUE(verdict("eve", now_s + 9 * day_s + 1).good());
}

TEST_F(AuthorityTest, OpensslRefusesWhatAnotherCaHasIssued) {
    init();
    ASSERT_TRUE(issue("eve", Role::user).has_value());
    // Of the same name, so that only the key is another.
    ASSERT_TRUE(Authority::init(root_ / "other", "test-ca", now_s).has_value());
    const auto other = verify(chain("eve"), text_of(root_ / "other" / "ca.pem"),
                              text_of(root_ / "other" / "crl.pem"), now_s);
    EXPECT_FALSE(other.good());
}

TEST_F(AuthorityTest, OpensslRefusesWhatIsRevoked) {
    init();
    const auto serial = issue("eve", Role::user).value().serial;
    ASSERT_TRUE(issue("tom", Role::user).has_value());
    const std::string eve = chain("eve");
    ASSERT_TRUE(revoke("eve").has_value());
    EXPECT_EQ(verify(eve, ca_pem(), crl_pem(), now_s).code, X509_V_ERR_CERT_REVOKED);
    EXPECT_TRUE(is_revoked(serial, crl_pem(), ca_pem()).value());
    EXPECT_TRUE(verdict("tom").good());
}

TEST_F(AuthorityTest, TheListOfTheRevokedIsGoodForAsLongAsTheCa) {
    init();
    ASSERT_TRUE(issue("eve", Role::user, most_days).has_value());
    EXPECT_TRUE(verdict("eve", now_s + (ca_days - 1) * day_s).good());
}

TEST_F(AuthorityTest, RevokingByASerialNumberLeavesTheOthersOfTheName) {
    init();
    const auto first = issue("eve", Role::user).value().serial;
    const auto second = renew("eve").value().serial;
    const auto revoked = revoke(first).value();
    ASSERT_EQ(revoked.size(), 1U);
    EXPECT_TRUE(is_revoked(first, crl_pem(), ca_pem()).value());
    EXPECT_FALSE(is_revoked(second, crl_pem(), ca_pem()).value());
    EXPECT_TRUE(verdict("eve").good());
}

TEST_F(AuthorityTest, RevokingANameRevokesAllThatItHas) {
    init();
    const auto first = issue("eve", Role::user).value().serial;
    const auto second = renew("eve").value().serial;
    EXPECT_EQ(revoke("eve").value().size(), 2U);
    EXPECT_TRUE(is_revoked(first, crl_pem(), ca_pem()).value());
    EXPECT_TRUE(is_revoked(second, crl_pem(), ca_pem()).value());
}

TEST_F(AuthorityTest, RevokingTwiceIsNoError) {
    init();
    ASSERT_TRUE(issue("eve", Role::user).has_value());
    ASSERT_TRUE(revoke("eve", now_s).has_value());
    const auto again = revoke("eve", now_s + 5);
    ASSERT_TRUE(again.has_value());
    EXPECT_EQ(again->at(0).revoked_s, now_s);
}

TEST_F(AuthorityTest, RevokingAStrangerIsAnError) {
    init();
    EXPECT_EQ(revoke("eve").error().code(), Errc::not_found);
}

TEST_F(AuthorityTest, AListThatWasLostOnTheWayIsWrittenAgainByTheNextCommand) {
    init();
    const auto serial = issue("eve", Role::user).value().serial;
    const std::string before = crl_pem();
    ASSERT_TRUE(revoke("eve").has_value());
    std::ofstream(ca_ / "crl.pem") << before;
    ASSERT_TRUE(issue("tom", Role::user).has_value());
    EXPECT_TRUE(is_revoked(serial, crl_pem(), ca_pem()).value());
}

TEST_F(AuthorityTest, ANameHasOneCertificateThatIsIssued) {
    init();
    ASSERT_TRUE(issue("eve", Role::user).has_value());
    const std::string before = chain("eve");
    const auto again = issue("eve", Role::admin);
    ASSERT_FALSE(again.has_value());
    EXPECT_EQ(again.error().code(), Errc::already_exists);
    EXPECT_EQ(chain("eve"), before);
}

TEST_F(AuthorityTest, ANameThatIsRevokedCanBeIssuedAgain) {
    init();
    ASSERT_TRUE(issue("eve", Role::admin).has_value());
    ASSERT_TRUE(revoke("eve").has_value());
    ASSERT_TRUE(issue("eve", Role::user).has_value());
    EXPECT_TRUE(verdict("eve").good());
}

TEST_F(AuthorityTest, AFileOfSomebodyElseIsNotOverwritten) {
    init();
    std::ofstream(ca_ / "issued" / "eve.key") << "mine";
    EXPECT_EQ(issue("eve", Role::user).error().code(), Errc::already_exists);
    EXPECT_EQ(text_of(ca_ / "issued" / "eve.key"), "mine");
}

TEST_F(AuthorityTest, NamesThatAreNoneAreRefused) {
    init();
    for (const std::string holder : {"", "../eve", "a/b", "a,URI:lanepool", "a b", "-a", ".a"})
        EXPECT_EQ(issue(holder, Role::user).error().code(), Errc::invalid_argument) << holder;
    EXPECT_EQ(issue(std::string(64, 'a'), Role::user).error().code(), Errc::invalid_argument);
}

TEST_F(AuthorityTest, DnsNamesAndAddressesThatAreNoneAreRefused) {
    init();
    auto authority = open();
    for (const std::string dns : {"", "a b", "*.x", "x,IP:1.2.3.4", "-x"})
        EXPECT_EQ(authority.issue({"c", Role::controller, "", {dns}, {}}, 1, now_s).error().code(),
                  Errc::invalid_argument)
            << dns;
    for (const std::string ip : {"", "1.2.3", "1.2.3.4,DNS:x", "x"})
        EXPECT_EQ(authority.issue({"c", Role::controller, "", {}, {ip}}, 1, now_s).error().code(),
                  Errc::invalid_argument)
            << ip;
}

TEST_F(AuthorityTest, OnlyAnAgentHasAHost) {
    init();
    EXPECT_EQ(open().issue({"eve", Role::user, "store1", {}, {}}, 1, now_s).error().code(),
              Errc::invalid_argument);
}

TEST_F(AuthorityTest, ACertificateIsGoodForOneToManyDays) {
    init();
    EXPECT_EQ(issue("eve", Role::user, 0).error().code(), Errc::invalid_argument);
    EXPECT_EQ(issue("eve", Role::user, most_days + 1).error().code(), Errc::invalid_argument);
}

TEST_F(AuthorityTest, ACertificateEndsWithItsCa) {
    init();
    const int64_t late_s = now_s + (ca_days - 10) * day_s;
    EXPECT_EQ(issue("eve", Role::user, 365, late_s).value().validity.not_after_s, now_s + ca_days * day_s);
}

TEST_F(AuthorityTest, AnExpiredCaSignsNothing) {
    init();
    const auto issued = issue("eve", Role::user, 365, now_s + ca_days * day_s);
    ASSERT_FALSE(issued.has_value());
    EXPECT_EQ(issued.error().code(), Errc::failed_precondition);
}

TEST_F(AuthorityTest, AKeyThatOthersCanReadSignsNothing) {
    init();
    fs::permissions(ca_ / "ca.key", fs::perms(0640));
    const auto issued = issue("eve", Role::user);
    ASSERT_FALSE(issued.has_value());
    EXPECT_EQ(issued.error().code(), Errc::permission_denied);
    EXPECT_THAT(issued.error().message(), HasSubstr("chmod 600"));
    EXPECT_FALSE(fs::exists(ca_ / "issued" / "eve.key"));
}

TEST_F(AuthorityTest, AKeyOfAnotherCaSignsNothing) {
    init();
    ASSERT_TRUE(Authority::init(root_ / "other", "test-ca", now_s).has_value());
    fs::copy_file(root_ / "other" / "ca.key", ca_ / "ca.key", fs::copy_options::overwrite_existing);
    EXPECT_EQ(issue("eve", Role::user).error().code(), Errc::protocol);
}

TEST_F(AuthorityTest, RenewingKeepsTheKeyAndTheHolder) {
    init();
    ASSERT_TRUE(open().issue({"a", Role::agent, "store1", {}, {}}, 10, now_s).has_value());
    const std::string key = text_of(ca_ / "issued" / "a.key");
    const auto renewed = renew("a", now_s + 9 * day_s).value();
    EXPECT_EQ(text_of(ca_ / "issued" / "a.key"), key);
    EXPECT_EQ(X509_check_private_key(read_certificate(chain("a"), "c").value().get(),
                                     read_key(key, "k").value().get()),
              1);
    EXPECT_EQ(identity_of(chain("a")).value(),
              (PeerIdentity{Role::agent, "a", "store1", renewed.serial, now_s + 374 * day_s}));
    EXPECT_TRUE(verdict("a", now_s + 300 * day_s).good());
}

TEST_F(AuthorityTest, WhatIsRevokedIsNotRenewed) {
    init();
    ASSERT_TRUE(issue("eve", Role::user).has_value());
    ASSERT_TRUE(revoke("eve").has_value());
    EXPECT_EQ(renew("eve").error().code(), Errc::not_found);
}

TEST_F(AuthorityTest, ACertificateOfAnotherCaIsNotRenewed) {
    init();
    ASSERT_TRUE(issue("eve", Role::user).has_value());
    ASSERT_TRUE(Authority::init(root_ / "other", "test-ca", now_s).has_value());
    ASSERT_TRUE(Authority::open(root_ / "other")
                    .value()
                    .issue({"eve", Role::user, "", {}, {}}, 10, now_s)
                    .has_value());
    fs::copy_file(root_ / "other" / "issued" / "eve.pem", ca_ / "issued" / "eve.pem",
                  fs::copy_options::overwrite_existing);
    EXPECT_EQ(renew("eve").error().code(), Errc::protocol);
}

TEST_F(AuthorityTest, TheCertificateOfAnotherNameIsNotRenewed) {
    init();
    ASSERT_TRUE(issue("eve", Role::admin).has_value());
    ASSERT_TRUE(issue("tom", Role::user).has_value());
    fs::copy_file(ca_ / "issued" / "tom.pem", ca_ / "issued" / "eve.pem",
                  fs::copy_options::overwrite_existing);
    EXPECT_EQ(renew("eve").error().code(), Errc::protocol);
}

TEST_F(AuthorityTest, WhatIsIssuedIsListed) {
    init();
    ASSERT_TRUE(issue("eve", Role::user).has_value());
    ASSERT_TRUE(issue("tom", Role::operator_).has_value());
    ASSERT_TRUE(revoke("eve").has_value());
    const auto authority = open();
    ASSERT_EQ(authority.issued().size(), 2U);
    EXPECT_EQ(authority.issued()[0].revoked_s, now_s);
    EXPECT_EQ(authority.issued()[1].holder.name, "tom");
    EXPECT_FALSE(authority.issued()[1].revoked());
}

TEST_F(AuthorityTest, ABrokenIndexIsAnErrorAndStaysAsItIs) {
    init();
    std::ofstream(ca_ / "index.json") << "{}";
    const auto authority = Authority::open(ca_);
    ASSERT_FALSE(authority.has_value());
    EXPECT_EQ(authority.error().code(), Errc::protocol);
    EXPECT_EQ(text_of(ca_ / "index.json"), "{}");
}

} // namespace
} // namespace lanepool::pki
