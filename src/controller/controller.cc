// SPDX-License-Identifier: Apache-2.0
#include "controller/controller.h"

#include "api/identity.h"
#include "api/keepalive.h"
#include "io/unix_socket.h"

#include <array>
#include <grp.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

namespace lanepool::controller {

namespace {
// A Hello of as many devices and loans as are taken is well below.
constexpr int largest_request_bytes = 1 << 20;
constexpr std::chrono::seconds stop_grace{1};

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
} // namespace

Result<std::unique_ptr<Controller>> Controller::create(io::EventLoop& loop,
                                                       const ControllerOptions& options) {
    // First of all: its database is what keeps two controllers from having the same records.
    auto seat = TRY(Seat::create(loop, options));
    const auto path = api::socket_path(options.listen);
    if (path.empty())
        return fail(Errc::not_supported,
                    "'{}' is no socket of this machine: write unix:/path; addresses are not supported yet",
                    options.listen);
    // gRPC would take the place of a controller that lives.
    if (io::connect_unix(path))
        return fail(Errc::already_exists,
                    "{} is already being served: stop that controller, or name another socket",
                    path.string());
    const auto identity = api::identity_socket(path);
    auto peers = TRY(Peers::create(loop, identity, socket_mode(options)));
    TRY(give_to_group(identity, options.group));
    std::unique_ptr<Controller> controller(new Controller(loop, std::move(seat), std::move(peers)));
    if (!options.admin.empty()) TRY(controller->serve_admin(options.admin));
    TRY(controller->listen(path, socket_mode(options)));
    TRY(give_to_group(path, options.group));
    return controller;
}

Controller::Controller(io::EventLoop& loop, std::unique_ptr<Seat> seat, std::unique_ptr<Peers> peers)
    : loop_(loop), seat_(std::move(seat)), peers_(std::move(peers)), pool_service_(*seat_, *peers_),
      agents_service_(*seat_, *peers_) {}

Result<> Controller::serve_admin(const std::filesystem::path& path) {
    admin_ = TRY(admin::Server::create(loop_, path));
    admin_->add("status", [this](const admin::Json&) -> Result<admin::Json> { return seat_->status(); });
    admin_->add("stats", [this](const admin::Json&) -> Result<admin::Json> { return seat_->stats(); });
    return {};
}

Result<> Controller::listen(const std::filesystem::path& path, mode_t mode) {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("unix:" + path.string(), grpc::InsecureServerCredentials(), &port);
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    // Clients ask whether we are there.
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                               api::keepalive_least_ms);
    builder.SetMaxReceiveMessageSize(largest_request_bytes);
    builder.RegisterService(&pool_service_);
    builder.RegisterService(&agents_service_);
    // There is no moment in which the socket is open to others.
    const mode_t before = ::umask(0777 & ~mode);
    server_ = builder.BuildAndStart();
    ::umask(before);
    if (!server_ || port == 0)
        return fail(Errc::unavailable, "cannot listen on {}: look at its folder and permissions",
                    path.string());
    return {};
}

Controller::~Controller() {
    if (!server_) return;
    seat_->stop();
    // Streams end on the loop's thread, this one; so the waiting is done by another.
    bool stopped = false;
    std::thread stopper([&] {
        server_->Shutdown(std::chrono::system_clock::now() + stop_grace);
        loop_.post([&] { stopped = true; });
    });
    while (!stopped)
        loop_.run_once(std::chrono::milliseconds(100));
    stopper.join();
    server_.reset();
    // What the last streams have posted: they are gone before the seat is.
    loop_.run_once(std::chrono::milliseconds(0));
}

} // namespace lanepool::controller
