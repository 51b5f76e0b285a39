// SPDX-License-Identifier: Apache-2.0
//
// Takes connections from other machines and hands them to gRPC, which by itself takes any number. Somebody
// whom no certificate has made known yet costs a descriptor and a handshake that may never end: of such there
// are few at a time, in all and from one address, so that they cannot keep out the others.
#pragma once

#include "io/event_loop.h"

#include <grpcpp/server_builder.h>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <sys/types.h>
#include <vector>

namespace lanepool::controller {

struct AcceptorLimits {
    size_t connections = 8192;
    size_t strangers = 1024;
    size_t strangers_of_address = 64;
};

class Acceptor {
  public:
    // Of LOOP's thread, as is everything that does not say otherwise.
    Acceptor(io::EventLoop& loop, AcceptorLimits limits) : loop_(loop), limits_(limits) {}

    // Binds WHERE, HOST:PORT; nobody is taken yet. Errors: as io::listen_tcp().
    Result<> bind(const std::string& where);
    // What has been bound, with the ports that 0 has become.
    std::vector<std::string> addresses() const;
    // Takes connections from here on, for HANDLER.
    Result<> start(std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> handler);
    // Takes no more.
    void stop();

    // PEER, as grpc::ServerContext::peer() gives it, has made a call that was let in. From any thread.
    void known(const std::string& peer);

  private:
    struct Door {
        UniqueFd listener;
        std::string address;
        io::EventLoop::Registration watch;
        io::EventLoop::Registration retry;
    };
    // A descriptor is gRPC's when it has been handed over, and closed by it. Its inode tells whether it is
    // still the same.
    struct Connection {
        ino_t inode = 0;
        std::string peer;
        std::string address; // without the port
        bool known = false;
    };

    Result<> open(Door& door);
    void accept(Door& door);
    Result<> admit(UniqueFd socket);
    // Whether there is room for one more of ADDRESS.
    Result<> check_room(const std::string& address);
    void forget_closed();
    void forget(std::map<int, Connection>::iterator connection);

    io::EventLoop& loop_;
    const AcceptorLimits limits_;
    std::vector<std::unique_ptr<Door>> doors_;
    std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> handler_;
    io::TimePoint complained_{};
    std::mutex mutex_; // of the following
    std::map<int, Connection> connections_;
    std::map<std::string, int> by_peer_;
    size_t strangers_ = 0;
    std::map<std::string, size_t> strangers_of_;
};

} // namespace lanepool::controller
