// SPDX-License-Identifier: Apache-2.0
#include "controller/controller.h"

#include "io/unix_socket.h"
#include "store/sqlite_store.h"

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>
#include <sys/stat.h>
#include <thread>

namespace lanepool::controller {

namespace {
// A Hello of as many devices and loans as are taken is well below.
constexpr int largest_request_bytes = 1 << 20;
constexpr std::chrono::seconds stop_grace{1};

// The path of "unix:/path" and "/path"; empty for an address.
std::filesystem::path socket_path(const std::string& endpoint) {
    if (endpoint.starts_with("unix:")) return endpoint.substr(5);
    return endpoint.starts_with('/') ? std::filesystem::path(endpoint) : std::filesystem::path();
}
} // namespace

Result<std::unique_ptr<Controller>> Controller::create(io::EventLoop& loop,
                                                       const ControllerOptions& options) {
    // First of all: it is what keeps two controllers from having the same records.
    auto store = TRY(store::SqliteStore::open(options.state, options.audit_kept));
    auto core = TRY(Core::create(loop, std::move(store), options));
    std::unique_ptr<Controller> controller(new Controller(loop, std::move(core)));
    if (!options.admin.empty()) TRY(controller->serve_admin(options.admin));
    TRY(controller->listen(options.listen));
    return controller;
}

Controller::Controller(io::EventLoop& loop, std::unique_ptr<Core> core)
    : loop_(loop), core_(std::move(core)), pool_service_(*core_), agents_service_(*core_) {}

Result<> Controller::serve_admin(const std::filesystem::path& path) {
    admin_ = TRY(admin::Server::create(loop_, path));
    admin_->add("status", [this](const admin::Json&) -> Result<admin::Json> { return core_->status(); });
    admin_->add("stats", [this](const admin::Json&) -> Result<admin::Json> { return core_->stats(); });
    return {};
}

Result<> Controller::listen(const std::string& endpoint) {
    const auto path = socket_path(endpoint);
    // gRPC would take the place of a controller that lives.
    if (!path.empty() && io::connect_unix(path))
        return fail(Errc::already_exists,
                    "{} is already being served: stop that controller, or name another socket",
                    path.string());
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort(path.empty() ? endpoint : "unix:" + path.string(),
                             grpc::InsecureServerCredentials(), &port);
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.SetMaxReceiveMessageSize(largest_request_bytes);
    builder.RegisterService(&pool_service_);
    builder.RegisterService(&agents_service_);
    // There is no moment in which the socket is open to others.
    const mode_t before = ::umask(0177);
    server_ = builder.BuildAndStart();
    ::umask(before);
    if (!server_ || port == 0)
        return fail(Errc::unavailable,
                    "cannot listen on {}: look at its folder and permissions, or whether the address is free",
                    endpoint);
    return {};
}

Controller::~Controller() {
    if (!server_) return;
    core_->stop();
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
    // What the last streams have posted: they are gone before the core is.
    loop_.run_once(std::chrono::milliseconds(0));
}

} // namespace lanepool::controller
