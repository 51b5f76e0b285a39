// SPDX-License-Identifier: Apache-2.0
//
// QEMU's machine protocol (QEMU documentation, "QEMU Machine Protocol Specification"): how a borrowing host
// puts a function into its guest and takes it away.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "io/clock.h"

#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

namespace lanepool::agent {

using Json = nlohmann::json;

// One connection to one guest's monitor. Blocking, for one thread at a time. A call that fails with `timeout`
// or `disconnected` leaves the connection unusable.
class Qmp {
  public:
    // Connects and negotiates. Errors: not_found, unavailable (no such guest), timeout, protocol.
    static Result<std::unique_ptr<Qmp>> connect(const std::filesystem::path& path, io::Duration timeout);

    // Runs one command and returns its "return" value; QEMU's refusal becomes failed_precondition with its
    // words.
    Result<Json> execute(std::string_view command, const Json& arguments, io::Duration timeout);

    // Waits for an event NAME for which WANTED says yes; also such that came during earlier calls.
    Result<Json> wait_event(std::string_view name, const std::function<bool(const Json& data)>& wanted,
                            io::Duration timeout);

    // Forgets events that came before.
    void clear_events() { events_.clear(); }

  private:
    explicit Qmp(UniqueFd socket) : socket_(std::move(socket)) {}
    Result<Json> receive(io::TimePoint deadline);

    UniqueFd socket_;
    std::string input_;
    std::deque<Json> events_; // at most max_events, oldest dropped
};

} // namespace lanepool::agent
