// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "api/lanepool.grpc.pb.h"
#include "api/status.h"
#include "base/result.h"

#include <chrono>
#include <memory>
#include <string>

namespace lanepool::api {

// A connection to a controller, for commands and agents. It reconnects by itself within a second of the
// controller's return. Thread-safe.
class Client {
  public:
    // ENDPOINT is a gRPC target, for example "unix:/run/lanepool/controller.sock", or a socket's path. Waits
    // at most TIMEOUT for a connection. Errors: unavailable, saying what to look at.
    static Result<std::unique_ptr<Client>>
    connect(const std::string& endpoint, std::chrono::milliseconds timeout = std::chrono::seconds(3));

    v1::Pool::Stub& pool() { return *pool_; }
    v1::Agents::Stub& agents() { return *agents_; }
    // For calls that answer from what the controller knows.
    void set_deadline(grpc::ClientContext& context) const {
        context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    }

  private:
    Client(std::unique_ptr<v1::Pool::Stub> pool, std::unique_ptr<v1::Agents::Stub> agents)
        : pool_(std::move(pool)), agents_(std::move(agents)) {}
    std::unique_ptr<v1::Pool::Stub> pool_;
    std::unique_ptr<v1::Agents::Stub> agents_;
};

} // namespace lanepool::api
