// SPDX-License-Identifier: Apache-2.0
//
// Finds the controller that leads, among those that are named. Client does all that most need; this is for
// who may have to end a search.
#pragma once

#include "api/client.h"
#include "api/stop_signal.h"

#include <deque>
#include <grpcpp/security/credentials.h>
#include <thread>

namespace lanepool::api {

// One thread for each endpoint, so that one that hangs delays nobody. They end before this does, at once.
class LeaderSearch {
  public:
    using Clock = StopSignal::Clock;

    // Errors: invalid_argument (the list; an address without certificates), those of client_credentials().
    static Result<std::unique_ptr<LeaderSearch>> create(const ClientOptions& options);
    ~LeaderSearch();

    // Once, one of the two.
    Result<std::unique_ptr<Client>> find();
    std::vector<Standing> survey();
    // From any thread: find() and survey() return what there is then.
    void stop() { stop_.stop(); }

  private:
    struct Try {
        explicit Try(Endpoint to) : endpoint(std::move(to)) {}
        const Endpoint endpoint;
        std::optional<Error> error; // the last one
        std::string stands_by;      // what it said, when it last answered
        bool over = false;          // trying again is in vain
        std::thread thread;
    };

    LeaderSearch(std::vector<Endpoint> named, std::shared_ptr<grpc::ChannelCredentials> credentials,
                 std::chrono::milliseconds timeout)
        : timeout_(timeout), deadline_(Clock::now() + timeout), named_(std::move(named)),
          credentials_(std::move(credentials)) {}
    void add(const Endpoint& endpoint);
    void probe(Try& one);
    // One question; whether to go on.
    bool probe_once(Try& one, std::unique_ptr<Client>& client);
    void heard(Try& one, const v1::LeaderReply& reply);
    Result<std::unique_ptr<Client>> open(const Endpoint& endpoint);
    Result<std::string> read_token(const UniqueFd& socket, const Endpoint& endpoint);
    Result<v1::LeaderReply> ask(Client& client);
    Error nobody() const;

    const std::chrono::milliseconds timeout_;
    const Clock::time_point deadline_;
    const std::vector<Endpoint> named_;
    const std::shared_ptr<grpc::ChannelCredentials> credentials_; // for addresses; null: none were given
    StopSignal stop_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<Try> tries_; // grows; what is there does not move
    std::unique_ptr<Client> found_;
};

} // namespace lanepool::api
