// SPDX-License-Identifier: Apache-2.0
//
// gRPC's C++ interface has no server credentials that take up new files and refuse wrong ones; its C
// interface asks for the certificates at each handshake.
#include "api/tls.h"

#include "pki/file.h"

#include <array>
#include <ctime>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <mutex>
#include <spdlog/spdlog.h>

namespace lanepool::api {

namespace {

Result<TlsTexts> read_server_files(const TlsFiles& files) {
    auto texts = TRY(read_tls_files(files, std::time(nullptr)));
    if (texts.identity.role != pki::Role::controller)
        return fail(Errc::protocol,
                    "{} is the certificate of {} {}; a controller takes one of `lanepool pki issue NAME "
                    "--role controller`",
                    files.certificate.string(), name(texts.identity.role), texts.identity.name);
    return texts;
}

// The files, and when they were last read. From any thread.
class Source {
  public:
    static Result<std::unique_ptr<Source>> create(const TlsFiles& files) {
        std::unique_ptr<Source> source(new Source(files));
        source->texts_ = TRY(read_server_files(files));
        return source;
    }

    // As gRPC calls it.
    static grpc_ssl_certificate_config_reload_status fetch(void* self,
                                                           grpc_ssl_server_certificate_config** config) {
        return static_cast<Source*>(self)->fetch(*config);
    }

  private:
    using Stamps = std::array<pki::FileStamp, 3>;
    explicit Source(TlsFiles files) : files_(std::move(files)), stamps_(stamps()) {}
    Stamps stamps() const {
        return {pki::stamp_of(files_.ca), pki::stamp_of(files_.certificate), pki::stamp_of(files_.key)};
    }

    grpc_ssl_certificate_config_reload_status fetch(grpc_ssl_server_certificate_config*& config) {
        const std::lock_guard lock(mutex_);
        if (const Stamps now = stamps(); now != stamps_) {
            stamps_ = now; // each change is looked at once
            auto texts = read_server_files(files_);
            if (texts) {
                spdlog::info("the certificate {} was renewed", files_.certificate.string());
                texts_ = std::move(*texts);
            } else {
                spdlog::error("the certificate files were changed, and the old ones still count: {}",
                              texts.error().message());
            }
        }
        // Never "unchanged": each address of a server asks by itself.
        const grpc_ssl_pem_key_cert_pair pair{texts_.key.c_str(), texts_.certificate.c_str()};
        config = grpc_ssl_server_certificate_config_create(texts_.ca.c_str(), &pair, 1);
        return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
    }

    const TlsFiles files_;
    std::mutex mutex_;
    TlsTexts texts_;
    Stamps stamps_;
};

class Credentials final : public grpc::ServerCredentials {
  public:
    explicit Credentials(std::unique_ptr<Source> source) : source_(std::move(source)) {}
    ~Credentials() override { grpc_server_credentials_release(credentials_); }
    void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

  private:
    int AddPortToServer(const std::string& address, grpc_server* server) override {
        return grpc_server_add_http2_port(server, address.c_str(), credentials_);
    }

    const std::unique_ptr<Source> source_; // for as long as there are handshakes
    grpc_server_credentials* const credentials_ = grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(
            GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY, &Source::fetch, source_.get()));
};

} // namespace

Result<std::shared_ptr<grpc::ServerCredentials>> server_credentials(const TlsFiles& files) {
    return std::make_shared<Credentials>(TRY(Source::create(files)));
}

} // namespace lanepool::api
