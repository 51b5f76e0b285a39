// SPDX-License-Identifier: Apache-2.0
#include "vfio/departure.h"

#include <array>
#include <poll.h>

namespace lanepool::vfio {

Result<std::unique_ptr<Departure>> Departure::create() {
    auto said = TRY(create_eventfd());
    auto wake = TRY(create_eventfd());
    std::unique_ptr<Departure> departure(new Departure(std::move(said), std::move(wake)));
    departure->thread_ = std::thread([&self = *departure] { self.run(); });
    return departure;
}

Departure::~Departure() {
    stopping_ = true;
    signal(wake_);
    thread_.join();
}

void Departure::set_callback(std::function<void()> callback) {
    {
        const std::lock_guard lock(mutex_);
        callback_ = std::move(callback);
    }
    signal(wake_);
}

void Departure::run() {
    while (!stopping_) {
        std::array<pollfd, 2> fds{{{said_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}}};
        if (::poll(fds.data(), fds.size(), -1) < 0) continue;
        drain(wake_);
        if (drain(said_) != 0) gone_ = true;
        if (!gone_ || stopping_) continue;
        const std::lock_guard lock(mutex_);
        if (const auto callback = std::exchange(callback_, nullptr)) callback();
    }
}

} // namespace lanepool::vfio
