// SPDX-License-Identifier: Apache-2.0
#include "controller/controller.h"

#include <thread>

namespace lanepool::controller {

namespace {
constexpr std::chrono::seconds stop_grace{1};
} // namespace

Result<std::unique_ptr<Controller>> Controller::create(io::EventLoop& loop,
                                                       const ControllerOptions& options) {
    // First of all: its database is what keeps two controllers from having the same records.
    auto seat = TRY(Seat::create(loop, options));
    auto listening = TRY(Listening::create(loop, options));
    std::unique_ptr<Controller> controller(new Controller(loop, std::move(seat), std::move(listening)));
    if (!options.admin.empty()) TRY(controller->serve_admin(options.admin));
    TRY(controller->listening_->serve({&controller->pool_service_, &controller->agents_service_}));
    return controller;
}

Controller::Controller(io::EventLoop& loop, std::unique_ptr<Seat> seat, std::unique_ptr<Listening> listening)
    : loop_(loop), seat_(std::move(seat)), listening_(std::move(listening)),
      pool_service_(*seat_, listening_->peers()), agents_service_(*seat_, listening_->peers()) {
    listening_->peers().on_recheck([this] { seat_->recheck(listening_->peers()); });
}

Result<> Controller::serve_admin(const std::filesystem::path& path) {
    admin_ = TRY(admin::Server::create(loop_, path));
    admin_->add("status", [this](const admin::Json&) -> Result<admin::Json> {
        auto status = seat_->status();
        status["listen"] = listening_->status();
        return status;
    });
    admin_->add("stats", [this](const admin::Json&) -> Result<admin::Json> { return seat_->stats(); });
    return {};
}

Controller::~Controller() {
    if (!listening_->serving()) return;
    listening_->close();
    seat_->stop();
    // Streams end on the loop's thread, this one; so the waiting is done by another.
    bool stopped = false;
    std::thread stopper([&] {
        listening_->shut_down(std::chrono::system_clock::now() + stop_grace);
        loop_.post([&] { stopped = true; });
    });
    while (!stopped)
        loop_.run_once(std::chrono::milliseconds(100));
    stopper.join();
    listening_->done();
    // What the last streams have posted: they are gone before the seat is.
    loop_.run_once(std::chrono::milliseconds(0));
}

} // namespace lanepool::controller
