// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "api/lanepool.grpc.pb.h"
#include "api/status.h"
#include "base/result.h"
#include "base/unique_fd.h"

#include <chrono>
#include <memory>
#include <string>

namespace lanepool::api {

// A connection to a controller, for commands and agents. It reconnects by itself within a second of the
// controller's return, but a controller on the same machine does not know it any more then: connect anew.
// Thread-safe.
class Client {
  public:
    // ENDPOINT is a gRPC target, for example "unix:/run/lanepool/controller.sock", or a socket's path. Waits
    // at most TIMEOUT for a connection. Errors: unavailable, saying what to look at.
    static Result<std::unique_ptr<Client>>
    connect(const std::string& endpoint, std::chrono::milliseconds timeout = std::chrono::seconds(3));

    v1::Pool::Stub& pool() { return *pool_; }
    v1::Agents::Stub& agents() { return *agents_; }
    // To be called for every call, before it is made: says who calls.
    void prepare(grpc::ClientContext& context) const;
    // The same for calls that answer from what the controller knows: they get a deadline.
    void prepare_short(grpc::ClientContext& context) const;

  private:
    Client() = default;
    std::unique_ptr<v1::Pool::Stub> pool_;
    std::unique_ptr<v1::Agents::Stub> agents_;
    UniqueFd identity_; // for as long as it is open, the token is ours
    std::string token_; // empty: the connection itself says who we are
};

} // namespace lanepool::api
