// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"
#include "io/event_loop.h"

namespace lanepool::io {

// From now on SIGTERM and SIGINT stop LOOP instead of ending the process, as long as what is returned lives.
// Call it before threads are started, so that all of them leave these signals alone.
class SignalStop {
  public:
    SignalStop(UniqueFd fd, EventLoop::Registration watch) : fd_(std::move(fd)), watch_(std::move(watch)) {}

  private:
    UniqueFd fd_;
    EventLoop::Registration watch_; // before the descriptor goes
};
Result<SignalStop> stop_on_signals(EventLoop& loop);

} // namespace lanepool::io
