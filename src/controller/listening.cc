// SPDX-License-Identifier: Apache-2.0
#include "controller/listening.h"

#include "api/endpoints.h"
#include "api/identity.h"
#include "api/keepalive.h"
#include "api/tls.h"
#include "io/tcp_socket.h"
#include "io/unix_socket.h"

#include <array>
#include <grp.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

namespace lanepool::controller {

namespace {
// A Hello of as many devices and loans as are taken is well below.
constexpr int largest_request_bytes = 1 << 20;
// Of TLS, with somebody who may never say a word.
constexpr int handshake_timeout_ms = 10'000;
// A machine that is gone does not close its connections.
constexpr int keepalive_interval_ms = 20'000;
constexpr int keepalive_timeout_ms = 10'000;

// Others than the owner and root are let in by their group only.
mode_t socket_mode(const ControllerOptions& options) { return options.group.empty() ? 0600 : 0660; }

Result<> give_to_group(const std::filesystem::path& path, const std::string& group) {
    if (group.empty()) return {};
    std::array<char, 4096> buffer;
    struct group entry {};
    struct group* found = nullptr;
    if (::getgrnam_r(group.c_str(), &entry, buffer.data(), buffer.size(), &found) != 0 || !found)
        return fail(Errc::not_found, "there is no group '{}' on this machine", group);
    if (::chown(path.c_str(), static_cast<uid_t>(-1), found->gr_gid) != 0)
        return fail_errno(fmt::format("giving {} to group {}", path.string(), group));
    return {};
}

Result<std::vector<std::string>> split(const std::string& listen) {
    std::vector<std::string> endpoints;
    for (size_t begin = 0; begin <= listen.size();) {
        const size_t end = std::min(listen.find(',', begin), listen.size());
        endpoints.push_back(listen.substr(begin, end - begin));
        if (endpoints.back().empty() || endpoints.size() > api::max_endpoints)
            return fail(Errc::invalid_argument,
                        "--listen '{}' is no list of endpoints: write unix:/path and HOST:PORT, separated by "
                        "commas",
                        listen);
        begin = end + 1;
    }
    return endpoints;
}
} // namespace

Listening::Listening(io::EventLoop& loop, const ControllerOptions& options)
    : loop_(loop), options_(options), acceptor_(loop, {}), peers_(loop) {}

Result<std::unique_ptr<Listening>> Listening::create(io::EventLoop& loop, const ControllerOptions& options) {
    std::unique_ptr<Listening> listening(new Listening(loop, options));
    std::vector<std::string> addresses;
    for (const auto& endpoint : TRY(split(options.listen))) {
        const auto path = api::socket_path(endpoint);
        if (path.empty())
            addresses.push_back(endpoint);
        else
            TRY(listening->take_socket(path));
    }
    if (!addresses.empty()) TRY(listening->take_addresses(addresses));
    return listening;
}

Result<> Listening::take_socket(const std::filesystem::path& path) {
    // gRPC would take the place of a controller that lives.
    if (io::connect_unix(path))
        return fail(Errc::already_exists,
                    "{} is already being served: stop that controller, or name another socket",
                    path.string());
    const auto identity = api::identity_socket(path);
    TRY(peers_.listen(identity, socket_mode(options_)));
    TRY(give_to_group(identity, options_.group));
    sockets_.push_back(path);
    return {};
}

Result<> Listening::take_addresses(const std::vector<std::string>& addresses) {
    for (const auto& address : addresses)
        TRY(io::parse_host_port(address));
    if (!options_.tls)
        return fail(Errc::invalid_argument,
                    "--listen {} needs certificates, since other machines are let in by TLS only: give "
                    "--tls-ca, --tls-cert and --tls-key, or listen on unix:/path alone",
                    addresses.front());
    credentials_ = TRY(api::server_credentials(*options_.tls));
    peers_.trust(TRY(Certificates::create(loop_.clock(), options_.tls->ca, options_.tls_crl)));
    peers_.on_known([this](const std::string& peer) { acceptor_.known(peer); });
    for (const auto& address : addresses)
        TRY(acceptor_.bind(address));
    return {};
}

std::string Listening::endpoints() const {
    std::vector<std::string> all = acceptor_.addresses();
    for (const auto& path : sockets_)
        all.push_back("unix:" + path.string());
    return fmt::format("{}", fmt::join(all, ","));
}

nlohmann::json Listening::status() const {
    nlohmann::json all = nlohmann::json::array();
    for (const auto& path : sockets_)
        all.push_back({{"endpoint", "unix:" + path.string()}, {"identity", "account"}});
    for (const auto& address : acceptor_.addresses())
        all.push_back({{"endpoint", address}, {"identity", "certificate"}});
    return all;
}

Result<> Listening::serve(std::initializer_list<grpc::Service*> services) {
    grpc::ServerBuilder builder;
    std::vector<int> bound(sockets_.size());
    for (size_t i = 0; i < sockets_.size(); ++i)
        builder.AddListeningPort("unix:" + sockets_[i].string(), grpc::InsecureServerCredentials(),
                                 &bound[i]);
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, handshake_timeout_ms);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, keepalive_interval_ms);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, keepalive_timeout_ms);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                               api::keepalive_least_ms);
    builder.SetMaxReceiveMessageSize(largest_request_bytes);
    for (grpc::Service* service : services)
        builder.RegisterService(service);
    std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> handler;
    if (credentials_)
        handler = builder.experimental().AddExternalConnectionAcceptor(
            grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, credentials_);
    // There is no moment in which a socket is open to others.
    const mode_t before = ::umask(0777 & ~socket_mode(options_));
    server_ = builder.BuildAndStart();
    ::umask(before);
    for (size_t i = 0; i < sockets_.size(); ++i) {
        if (!server_ || bound[i] == 0)
            return fail(Errc::unavailable, "cannot listen on {}: look at its folder and permissions",
                        sockets_[i].string());
        TRY(give_to_group(sockets_[i], options_.group));
    }
    if (!server_) return fail(Errc::unavailable, "cannot serve {}: gRPC's log says why", endpoints());
    if (credentials_) TRY(acceptor_.start(std::move(handler)));
    return {};
}

void Listening::close() { acceptor_.stop(); }

} // namespace lanepool::controller
