// SPDX-License-Identifier: Apache-2.0
#include "api/tls.h"

#include "api/lanepool.grpc.pb.h"
#include "base/temporary_folder.h"
#include "pki/authority.h"
#include "pki/file.h"

#include <ctime>
#include <fstream>
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <thread>

namespace lanepool::api {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr int64_t day_s = 86400;

// A CA in a folder of its own.
class Site {
  public:
    explicit Site(int64_t now_s = std::time(nullptr)) : now_s_(now_s) {
        EXPECT_TRUE(pki::Authority::init(folder(), "ca", now_s));
    }

    TlsFiles issue(const std::string& name, pki::Role role, std::vector<std::string> ip = {},
                   int days = 30) const {
        auto authority = pki::Authority::open(folder()).value();
        EXPECT_TRUE(authority.issue({name, role, "", {}, std::move(ip)}, days, now_s_));
        return files(name);
    }
    void renew(const std::string& name) const {
        EXPECT_TRUE(pki::Authority::open(folder()).value().renew(name, 30, now_s_));
    }
    TlsFiles files(const std::string& name) const {
        return {folder_ / "ca.pem", folder_ / "issued" / (name + ".pem"),
                folder_ / "issued" / (name + ".key")};
    }
    const fs::path& folder() const { return folder_.path(); }

  private:
    TemporaryFolder folder_;
    int64_t now_s_;
};

void write(const fs::path& path, const std::string& text) {
    std::ofstream file(path);
    file << text;
}

std::string refusal(const TlsFiles& files, Errc code, int64_t now_s = std::time(nullptr)) {
    const auto texts = read_tls_files(files, now_s);
    EXPECT_FALSE(texts.has_value());
    if (texts) return "";
    EXPECT_EQ(texts.error().code(), code) << texts.error().message();
    return texts.error().message();
}

TEST(TlsFiles, SayWhoseTheyAre) {
    const Site site;
    const auto texts = read_tls_files(site.issue("eve", pki::Role::user), std::time(nullptr));
    ASSERT_TRUE(texts.has_value()) << texts.error().message();
    EXPECT_EQ(texts->identity.name, "eve");
}

TEST(TlsFiles, AreAllNeeded) {
    const Site site;
    const TlsFiles files = site.issue("eve", pki::Role::user);
    EXPECT_THAT(refusal({"", files.certificate, files.key}, Errc::invalid_argument),
                HasSubstr("--tls-ca is missing"));
    EXPECT_THAT(refusal({files.ca, "", files.key}, Errc::invalid_argument),
                HasSubstr("--tls-cert is missing"));
    EXPECT_THAT(refusal({files.ca, files.certificate, ""}, Errc::invalid_argument),
                HasSubstr("--tls-key is missing"));
}

TEST(TlsFiles, ThatAreNotThereAreNamed) {
    const Site site;
    const TlsFiles files = site.issue("eve", pki::Role::user);
    EXPECT_THAT(refusal({files.ca, files.certificate, "/nowhere/eve.key"}, Errc::not_found),
                testing::AllOf(HasSubstr("/nowhere/eve.key"), HasSubstr("issued/NAME.key")));
}

TEST(TlsFiles, AKeyThatOthersCanReadIsRefused) {
    const Site site;
    const TlsFiles files = site.issue("eve", pki::Role::user);
    fs::permissions(files.key, fs::perms::group_read, fs::perm_options::add);
    EXPECT_THAT(refusal(files, Errc::permission_denied),
                testing::AllOf(HasSubstr(files.key.string()), HasSubstr("chmod 600")));
}

TEST(TlsFiles, AKeyOfAnotherCertificateIsRefused) {
    const Site site;
    const TlsFiles eve = site.issue("eve", pki::Role::user);
    const TlsFiles ada = site.issue("ada", pki::Role::user);
    EXPECT_THAT(refusal({eve.ca, eve.certificate, ada.key}, Errc::protocol),
                HasSubstr("ada.key is not the key of"));
}

TEST(TlsFiles, ACertificateOfAnotherCaIsRefused) {
    const Site site;
    const Site other;
    const TlsFiles eve = other.issue("eve", pki::Role::user);
    EXPECT_THAT(refusal({site.files("eve").ca, eve.certificate, eve.key}, Errc::protocol),
                HasSubstr("is not of the CA in"));
}

TEST(TlsFiles, ThatHaveExpiredAreRefused) {
    const Site site;
    const TlsFiles files = site.issue("eve", pki::Role::user, {}, 30);
    EXPECT_THAT(refusal(files, Errc::failed_precondition, std::time(nullptr) + 31 * day_s),
                testing::AllOf(HasSubstr("eve.pem has expired"), HasSubstr("pki renew eve")));
    EXPECT_THAT(refusal(files, Errc::failed_precondition, std::time(nullptr) - day_s),
                HasSubstr("this machine's clock"));
    EXPECT_THAT(
        refusal(files, Errc::failed_precondition, std::time(nullptr) + int64_t{pki::ca_days + 1} * day_s),
        HasSubstr("ca.pem has expired"));
}

TEST(TlsFiles, ThatAreSomethingElseAreRefused) {
    const Site site;
    const TlsFiles files = site.issue("eve", pki::Role::user);
    const fs::path nonsense = site.folder() / "nonsense";
    write(nonsense, "nonsense");
    fs::permissions(nonsense, fs::perms::owner_read | fs::perms::owner_write);
    EXPECT_THAT(refusal({nonsense, files.certificate, files.key}, Errc::protocol),
                HasSubstr("nonsense is no certificate"));
    EXPECT_THAT(refusal({files.ca, nonsense, files.key}, Errc::protocol),
                HasSubstr("nonsense is no certificate"));
    EXPECT_THAT(refusal({files.ca, files.certificate, nonsense}, Errc::protocol),
                HasSubstr("nonsense is no key"));
    EXPECT_THAT(refusal({site.folder(), files.certificate, files.key}, Errc::protocol),
                HasSubstr("is no file"));
}

TEST(TlsFiles, TheCaIsOneCa) {
    const Site site;
    const TlsFiles files = site.issue("eve", pki::Role::user);
    EXPECT_THAT(refusal({files.certificate, files.certificate, files.key}, Errc::protocol),
                HasSubstr("not the certificate of a CA"));
    std::ifstream in(files.ca);
    const std::string ca{std::istreambuf_iterator<char>(in), {}};
    write(site.folder() / "two", ca + ca);
    EXPECT_THAT(refusal({site.folder() / "two", files.certificate, files.key}, Errc::protocol),
                HasSubstr("more than one"));
}

// ---- connections

// Says who calls.
class Server {
  public:
    explicit Server(const TlsFiles& files) {
        auto credentials = server_credentials(files);
        EXPECT_TRUE(credentials.has_value()) << credentials.error().message();
        credentials_ = *credentials;
        start();
    }
    // Anybody's certificate, as nobody but this test would use it.
    explicit Server(const TlsTexts& texts) {
        grpc::SslServerCredentialsOptions options(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
        options.pem_root_certs = texts.ca;
        options.pem_key_cert_pairs.push_back({texts.key, texts.certificate});
        credentials_ = grpc::SslServerCredentials(options);
        start();
    }
    ~Server() { server_->Shutdown(); }
    std::string endpoint() const { return fmt::format("127.0.0.1:{}", port_); }

  private:
    class Service final : public v1::Pool::Service {
        grpc::Status Leader(grpc::ServerContext* context, const v1::ListRequest*,
                            v1::LeaderReply* reply) override {
            const auto certificates = context->auth_context()->FindPropertyValues("x509_pem_cert");
            if (certificates.size() != 1) return {grpc::StatusCode::INTERNAL, "no certificate"};
            const auto identity = pki::identity_of({certificates[0].data(), certificates[0].size()});
            reply->set_name(identity ? identity->name + " " + identity->serial : identity.error().message());
            return grpc::Status::OK;
        }
    };
    void start() {
        grpc::ServerBuilder builder;
        builder.AddListeningPort("127.0.0.1:0", credentials_, &port_);
        builder.RegisterService(&service_);
        server_ = builder.BuildAndStart();
        ASSERT_TRUE(server_);
    }

    std::shared_ptr<grpc::ServerCredentials> credentials_;
    Service service_;
    int port_ = 0;
    std::unique_ptr<grpc::Server> server_;
};

struct Answer {
    grpc::Status status;
    std::string name;
};

Answer ask(const std::string& endpoint, const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    const auto stub = v1::Pool::NewStub(grpc::CreateCustomChannel(endpoint, credentials, arguments));
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    v1::LeaderReply reply;
    Answer answer;
    answer.status = stub->Leader(&context, {}, &reply);
    answer.name = reply.name();
    return answer;
}

Answer ask(const Server& server, const TlsFiles& files) {
    const auto credentials = client_credentials(files);
    EXPECT_TRUE(credentials.has_value()) << credentials.error().message();
    return ask(server.endpoint(), *credentials);
}

TEST(Tls, BothSidesSayWhoTheyAre) {
    const Site site;
    const Server server(site.issue("pool1", pki::Role::controller, {"127.0.0.1"}));
    const Answer answer = ask(server, site.issue("eve", pki::Role::user));
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_THAT(answer.name, testing::StartsWith("eve "));
}

TEST(Tls, AControllerOfAnotherAddressIsRefused) {
    const Site site;
    const Server server(site.issue("pool1", pki::Role::controller, {"192.0.2.7"}));
    const Answer answer = ask(server, site.issue("eve", pki::Role::user));
    EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_THAT(answer.status.error_message(), HasSubstr("for another name or address than 127.0.0.1"));
}

// An agent's certificate that is good for a server at this address: `lanepool pki` issues none.
TlsTexts agent_that_serves(const Site& site) {
    const auto ca_key =
        pki::read_key(pki::read_file(site.folder() / "ca.key", 65536).value(), "ca.key").value();
    TlsTexts texts;
    texts.ca = pki::read_file(site.folder() / "ca.pem", 65536).value();
    const auto ca = pki::read_certificate(texts.ca, "ca.pem").value();
    const auto key = pki::make_key().value();
    const pki::CertificatePtr certificate(X509_new());
    auto* subject = X509_get_subject_name(certificate.get());
    for (const auto& [field, value] : {std::pair("CN", "store1"), std::pair("OU", "lanepool agent")})
        X509_NAME_add_entry_by_txt(subject, field, MBSTRING_UTF8,
                                   reinterpret_cast<const unsigned char*>(value), -1, -1, 0);
    X509_set_version(certificate.get(), X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 2);
    X509_set1_notBefore(certificate.get(), X509_get0_notBefore(ca.get()));
    X509_set1_notAfter(certificate.get(), X509_get0_notAfter(ca.get()));
    X509_set_pubkey(certificate.get(), key.get());
    X509_set_issuer_name(certificate.get(), X509_get_subject_name(ca.get()));
    for (const auto& [nid, value] :
         {std::pair(NID_subject_alt_name, "URI:lanepool:agent/store1,URI:lanepool:host/store1,IP:127.0.0.1"),
          std::pair(NID_ext_key_usage, "serverAuth")}) {
        const pki::ExtensionPtr extension(X509V3_EXT_nconf_nid(nullptr, nullptr, nid, value));
        X509_add_ext(certificate.get(), extension.get(), -1);
    }
    X509_sign(certificate.get(), ca_key.get(), EVP_sha256());
    texts.certificate = pki::to_pem(certificate.get()).value();
    texts.key = pki::to_pem(key.get()).value();
    return texts;
}

TEST(Tls, AnAgentIsNoController) {
    const Site site;
    const Server server(agent_that_serves(site));
    const Answer answer = ask(server, site.issue("eve", pki::Role::user));
    EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_THAT(answer.status.error_message(), HasSubstr("shows the certificate of agent store1"));
}

TEST(Tls, AControllerDoesNotStartAsSomebodyElse) {
    const Site site;
    const auto credentials = server_credentials(site.issue("store1", pki::Role::agent));
    ASSERT_FALSE(credentials.has_value());
    EXPECT_THAT(credentials.error().message(), HasSubstr("--role controller"));
}

TEST(Tls, AControllerOfAnotherCaIsRefused) {
    const Site site;
    const Site other;
    const Server server(other.issue("pool1", pki::Role::controller, {"127.0.0.1"}));
    const Answer answer = ask(server, site.issue("eve", pki::Role::user));
    EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_THAT(answer.status.error_message(), HasSubstr("certificate verify failed"));
}

TEST(Tls, WhoShowsNoCertificateIsRefused) {
    const Site site;
    const Server server(site.issue("pool1", pki::Role::controller, {"127.0.0.1"}));
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = read_tls_files(site.files("pool1"), std::time(nullptr)).value().ca;
    const Answer answer = ask(server.endpoint(), grpc::SslCredentials(options));
    EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST(Tls, AServerTakesUpWhatIsRenewed) {
    const Site site;
    const TlsFiles files = site.issue("pool1", pki::Role::controller, {"192.0.2.7"});
    const TlsFiles eve = site.issue("eve", pki::Role::user);
    const Server server(files);
    EXPECT_FALSE(ask(server, eve).status.ok());
    const TlsFiles better = site.issue("pool2", pki::Role::controller, {"127.0.0.1"});
    fs::rename(better.key, files.key);
    EXPECT_FALSE(ask(server, eve).status.ok()) << "the key does not belong to the certificate";
    fs::rename(better.certificate, files.certificate);
    EXPECT_TRUE(ask(server, eve).status.ok());
    write(files.certificate, "nonsense");
    EXPECT_TRUE(ask(server, eve).status.ok()) << "the old one still counts";
}

TEST(Tls, AClientTakesUpWhatIsRenewed) {
    const Site site;
    const Server server(site.issue("pool1", pki::Role::controller, {"127.0.0.1"}));
    const auto credentials = client_credentials(site.issue("eve", pki::Role::user)).value();
    const std::string before = ask(server.endpoint(), credentials).name;
    site.renew("eve");
    std::string after = before;
    for (int i = 0; i < 100 && after == before; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        after = ask(server.endpoint(), credentials).name;
    }
    EXPECT_NE(after, before);
}

} // namespace
} // namespace lanepool::api
