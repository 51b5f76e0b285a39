// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "api/endpoints.h"
#include "api/lanepool.grpc.pb.h"
#include "api/status.h"
#include "api/tls.h"
#include "base/result.h"
#include "base/unique_fd.h"

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace lanepool::api {

struct ClientOptions {
    std::string endpoints; // as parse_endpoints() reads them
    // Who we are to controllers on other machines: needed where one of the endpoints is an address.
    std::optional<TlsFiles> tls = std::nullopt;
    // For somebody to be found who leads: an election takes some seconds.
    std::chrono::milliseconds timeout{3000};
};

// What one controller says about who leads.
struct Standing {
    Endpoint endpoint;
    Result<v1::LeaderReply> reply; // or why there is none
    std::chrono::microseconds took{0};
};

// A connection to the controller that leads, for commands and agents. When it ends, or the controller leads
// no more, calls fail with "unavailable": connect anew. A controller that is there but silent (its process
// was stopped, its machine is gone) is noticed within some two seconds. Thread-safe.
class Client {
  public:
    // Asks all of the endpoints side by side, and those that are named by controllers that stand by, until
    // one says that it leads. Errors: invalid_argument (the list, or an address without certificates), those
    // of client_credentials(); permission_denied (all that is there keeps
    // us out); unavailable: nobody leads or answers within the timeout, saying who was tried and what each
    // of them said.
    static Result<std::unique_ptr<Client>> connect(const ClientOptions& options);
    // What each of the endpoints says, in their order; one that is silent costs the timeout.
    static Result<std::vector<Standing>> survey(const ClientOptions& options);

    v1::Pool::Stub& pool() { return *pool_; }
    v1::Agents::Stub& agents() { return *agents_; }
    // Where the other end is.
    const Endpoint& endpoint() const { return endpoint_; }
    // To be called for every call, before it is made: says who calls.
    void prepare(grpc::ClientContext& context) const;
    // The same for calls that answer from what the controller knows: they get a deadline.
    void prepare_short(grpc::ClientContext& context) const;

  private:
    friend class LeaderSearch;
    Client() = default;
    Endpoint endpoint_;
    std::unique_ptr<v1::Pool::Stub> pool_;
    std::unique_ptr<v1::Agents::Stub> agents_;
    UniqueFd identity_; // for as long as it is open, the token is ours
    std::string token_; // empty: the connection itself says who we are
};

} // namespace lanepool::api
