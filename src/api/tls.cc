// SPDX-License-Identifier: Apache-2.0
#include "api/tls.h"

#include "pki/file.h"
#include "pki/openssl.h"

#include <ctime>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_certificate_verifier.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <openssl/pem.h>

namespace lanepool::api {

namespace {

constexpr unsigned int refresh_interval_s = 5;

std::string utc(int64_t unix_time_s) {
    std::tm fields{};
    const time_t time = unix_time_s;
    ::gmtime_r(&time, &fields);
    return fmt::format("{:04}-{:02}-{:02} {:02}:{:02} UTC", fields.tm_year + 1900, fields.tm_mon + 1,
                       fields.tm_mday, fields.tm_hour, fields.tm_min);
}

Result<> check_named(const std::filesystem::path& file, std::string_view option) {
    if (!file.empty()) return {};
    return fail(Errc::invalid_argument,
                "{} is missing: TLS takes all of --tls-ca, --tls-cert and --tls-key, as `lanepool pki init` "
                "and `lanepool pki issue` make them",
                option);
}

Result<std::string> with_hint(Result<std::string> text, std::string_view option, std::string_view hint) {
    if (text || (text.error().code() != Errc::not_found && text.error().code() != Errc::permission_denied))
        return text;
    return fail(text.error().code(), "{}: {}{}", option, text.error().message(),
                text.error().code() == Errc::not_found ? fmt::format("; it is {}", hint) : std::string());
}

Result<> check_time(const X509* certificate, const std::string& file, int64_t now_s, std::string_view hint) {
    const int64_t from_s = TRY(pki::unix_time_s(X509_get0_notBefore(certificate)));
    const int64_t until_s = TRY(pki::unix_time_s(X509_get0_notAfter(certificate)));
    if (now_s < from_s)
        return fail(Errc::failed_precondition, "{} is good from {} on: look at this machine's clock", file,
                    utc(from_s));
    if (now_s >= until_s)
        return fail(Errc::failed_precondition, "{} has expired, on {}; {}", file, utc(until_s), hint);
    return {};
}

// A second CA would be one whose list of revoked certificates nobody has.
Result<pki::CertificatePtr> only_ca(const std::string& pem, const std::string& file) {
    auto ca = TRY(pki::read_certificate(pem, file));
    if (X509_check_ca(ca.get()) == 0)
        return fail(Errc::protocol, "{} is not the certificate of a CA; take the ca.pem of its folder", file);
    constexpr std::string_view begin = "-----BEGIN ";
    if (pem.find(begin, pem.find(begin) + 1) != std::string::npos)
        return fail(Errc::protocol, "{} has more than one certificate; take the ca.pem of one CA", file);
    return ca;
}

// Takes only who is a controller, besides what gRPC verifies by itself: that the certificate is of the CA and
// good now, and that the other side has its key. An agent's certificate must not do for a controller.
class ControllerVerifier final : public grpc::experimental::ExternalCertificateVerifier {
  public:
    bool Verify(grpc::experimental::TlsCustomVerificationCheckRequest* request,
                std::function<void(grpc::Status)>, grpc::Status* status) override {
        // That one answers at once.
        static_cast<void>(names_.Verify(request, nullptr, status));
        if (!status->ok()) {
            *status = {grpc::StatusCode::UNAUTHENTICATED,
                       fmt::format("its certificate is for another name or address than {}",
                                   text(request->target_name()))};
            return true;
        }
        const auto identity = pki::identity_of(text(request->peer_cert()));
        if (!identity)
            *status = {grpc::StatusCode::UNAUTHENTICATED, identity.error().message()};
        else if (identity->role != pki::Role::controller)
            *status = {grpc::StatusCode::UNAUTHENTICATED,
                       fmt::format("{} shows the certificate of {} {}, and is no controller",
                                   text(request->target_name()), name(identity->role), identity->name)};
        return true;
    }
    void Cancel(grpc::experimental::TlsCustomVerificationCheckRequest*) override {}

  private:
    static std::string_view text(grpc::string_ref ref) { return {ref.data(), ref.size()}; }
    grpc::experimental::HostNameCertificateVerifier names_;
};

} // namespace

Result<TlsTexts> read_tls_files(const TlsFiles& files, int64_t now_s) {
    TRY(check_named(files.ca, "--tls-ca"));
    TRY(check_named(files.certificate, "--tls-cert"));
    TRY(check_named(files.key, "--tls-key"));
    TlsTexts texts;
    texts.ca = TRY(with_hint(pki::read_file(files.ca, pki::most_pem_bytes), "--tls-ca",
                             "the ca.pem of the CA's folder"));
    texts.certificate = TRY(with_hint(pki::read_file(files.certificate, pki::most_pem_bytes), "--tls-cert",
                                      "the issued/NAME.pem of the CA's folder"));
    texts.key = TRY(with_hint(pki::read_private_file(files.key, "revoke its certificate and issue another"),
                              "--tls-key", "the issued/NAME.key of the CA's folder"));
    const auto ca = TRY(only_ca(texts.ca, files.ca.string()));
    const auto certificate = TRY(pki::read_certificate(texts.certificate, files.certificate.string()));
    const auto key = TRY(pki::read_key(texts.key, files.key.string()));
    auto identity = pki::identity_of(texts.certificate);
    if (!identity) return tl::unexpected<Error>(identity.error().within(files.certificate.string()));
    texts.identity = std::move(*identity);
    if (X509_check_private_key(certificate.get(), key.get()) != 1)
        return pki::fail_openssl(Errc::protocol,
                                 fmt::format("{} is not the key of {}; take both from one `lanepool pki "
                                             "issue`",
                                             files.key.string(), files.certificate.string()));
    if (X509_verify(certificate.get(), X509_get0_pubkey(ca.get())) != 1)
        return pki::fail_openssl(Errc::protocol,
                                 fmt::format("{} is not of the CA in {}; take both from one CA's folder",
                                             files.certificate.string(), files.ca.string()));
    TRY(check_time(ca.get(), files.ca.string(), now_s, "make a new CA, and issue everything anew"));
    TRY(check_time(certificate.get(), files.certificate.string(), now_s,
                   fmt::format("`lanepool pki renew {}` makes a new one", texts.identity.name)));
    return texts;
}

Result<std::shared_ptr<grpc::ChannelCredentials>> client_credentials(const TlsFiles& files) {
    TRY(read_tls_files(files, std::time(nullptr)));
    grpc::experimental::TlsChannelCredentialsOptions options;
    options.set_certificate_provider(std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(
        files.key.string(), files.certificate.string(), files.ca.string(), refresh_interval_s));
    options.watch_root_certs();
    options.watch_identity_key_cert_pairs();
    options.set_certificate_verifier(
        grpc::experimental::ExternalCertificateVerifier::Create<ControllerVerifier>());
    auto credentials = grpc::experimental::TlsCredentials(options);
    if (!credentials) return fail(Errc::internal, "gRPC makes no TLS credentials; its log says why");
    return credentials;
}

} // namespace lanepool::api
