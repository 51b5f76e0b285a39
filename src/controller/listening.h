// SPDX-License-Identifier: Apache-2.0
//
// Where a controller is reached, by whom, and who they are: Unix sockets, for this machine, whose kernel says
// who connects; and addresses, for others, by TLS on both sides.
#pragma once

#include "controller/acceptor.h"
#include "controller/peers.h"
#include "controller/run.h"
#include "io/event_loop.h"

#include <grpcpp/server.h>
#include <initializer_list>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace lanepool::controller {

// Of the loop's thread, unless it says otherwise.
class Listening {
  public:
    // Takes everything that OPTIONS.listen names, or nothing of it; nobody is served yet. Errors name what is
    // wrong and what to do.
    static Result<std::unique_ptr<Listening>> create(io::EventLoop& loop, const ControllerOptions& options);
    Listening(const Listening&) = delete;
    Listening& operator=(const Listening&) = delete;

    Peers& peers() { return peers_; }
    // The endpoints, with the ports that 0 has become; separated by commas.
    std::string endpoints() const;
    // For the administration socket.
    nlohmann::json status() const;

    // SERVICES must outlive it.
    Result<> serve(std::initializer_list<grpc::Service*> services);
    bool serving() const { return server_ != nullptr; }
    // Nobody new is taken.
    void close();
    // Cancels, after DEADLINE, what is still under way, and waits for its end. After close(), and not from
    // the loop's thread: that is what ends streams.
    void shut_down(std::chrono::system_clock::time_point deadline) { server_->Shutdown(deadline); }
    // After that: gRPC makes no more calls.
    void done() { server_.reset(); }

  private:
    Listening(io::EventLoop& loop, const ControllerOptions& options);
    Result<> take_socket(const std::filesystem::path& path);
    Result<> take_addresses(const std::vector<std::string>& addresses);

    io::EventLoop& loop_;
    const ControllerOptions options_;
    std::vector<std::filesystem::path> sockets_;
    Acceptor acceptor_;
    Peers peers_;
    std::shared_ptr<grpc::ServerCredentials> credentials_; // null: no addresses
    std::unique_ptr<grpc::Server> server_;
};

} // namespace lanepool::controller
