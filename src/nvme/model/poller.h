// SPDX-License-Identifier: Apache-2.0
//
// The model's one thread: polls the controller, and is woken by file operations that end while it sleeps.
#pragma once

#include "device_model/poller.h"
#include "nvme/model/controller.h"

namespace lanepool::nvme::model {

class Poller {
  public:
    static Result<std::unique_ptr<Poller>> create(io::EventLoop& loop, Media& media, Controller& controller);

    // Until the loop is stopped.
    void run() { poller_.run(); }
    const device_model::PollerStats& stats() const { return poller_.stats(); }

  private:
    Poller(io::EventLoop& loop, Controller& controller) : poller_(loop, controller) {}

    device_model::Poller poller_;
    io::EventLoop::Registration files_watch_;
};

} // namespace lanepool::nvme::model
