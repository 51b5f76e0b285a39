// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "admin/server.h"
#include "controller/listening.h"
#include "controller/run.h"
#include "controller/seat.h"
#include "controller/services.h"
#include "io/event_loop.h"

#include <memory>

namespace lanepool::controller {

// The controller as part of a process that runs LOOP. Made and destroyed on the loop's thread, while the loop
// is not running; destroying it ends all streams and waits (some seconds at most) until they are gone.
class Controller {
  public:
    static Result<std::unique_ptr<Controller>> create(io::EventLoop& loop, const ControllerOptions& options);
    ~Controller();
    Controller(const Controller&) = delete;
    Controller& operator=(const Controller&) = delete;
    // The endpoints at which it is reached, with the ports that 0 has become; separated by commas.
    std::string endpoints() const { return listening_->endpoints(); }

  private:
    Controller(io::EventLoop& loop, std::unique_ptr<Seat> seat, std::unique_ptr<Listening> listening);
    Result<> serve_admin(const std::filesystem::path& path);

    io::EventLoop& loop_;
    std::unique_ptr<Seat> seat_;
    std::unique_ptr<Listening> listening_;
    PoolService pool_service_;
    AgentsService agents_service_;
    std::unique_ptr<admin::Server> admin_;
};

} // namespace lanepool::controller
