// SPDX-License-Identifier: Apache-2.0
//
// The administration socket that every lanepool daemon has: one JSON object a line in, one JSON object a line
// out.
// {"command": "stats"} -> {"ok": true, ...} or {"ok": false, "code": "not_found", "error": "..."}.
#pragma once

#include "base/result.h"
#include "io/event_loop.h"

#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

namespace lanepool::admin {

using Json = nlohmann::json;
// Called on the loop's thread with the whole request object; its answer is sent with "ok": true added.
using Command = std::function<Result<Json>(const Json& request)>;

class Server {
  public:
    // Listens on PATH, for the owner of the process and root only. A request line has at most 64 KiB, at most
    // 16 clients are served at a time.
    static Result<std::unique_ptr<Server>> create(io::EventLoop& loop, const std::filesystem::path& path);
    ~Server();
    // NAME of {"command": NAME}. Replaces an earlier one. "ping" is always there; an unknown one is answered
    // not_found with the list of those that are.
    void add(std::string name, Command command);

  private:
    class Impl;
    explicit Server(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

// One request, waiting for its answer at most TIMEOUT. What is returned is the answer object without "ok"; an
// answer of "ok": false becomes the error that it names.
Result<Json> call(const std::filesystem::path& path, const Json& request,
                  io::Duration timeout = std::chrono::seconds(5));

} // namespace lanepool::admin
