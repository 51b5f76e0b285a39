// SPDX-License-Identifier: Apache-2.0
//
// Who is at the other end of a call.
//
// gRPC does not tell whose process has connected to a Unix socket. So the controller has a second socket
// beside it, of which the kernel tells (SO_PEERCRED): a client connects there first, and is given a random
// token that stands for its user for as long as that connection lasts. The token comes with every call as
// metadata. Nobody can guess it, and it cannot outlive the process to which it was given.
#pragma once

#include "io/event_loop.h"
#include "pool/input.h"

#include <filesystem>
#include <grpcpp/server_context.h>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <sys/types.h>

namespace lanepool::controller {

struct Peer {
    pool::Caller caller;
    // Whose agent it may be: a host, or "*" for all of them; empty: nobody's.
    std::string agent_of;

    bool speaks_for(std::string_view host) const { return agent_of == "*" || agent_of == host; }
};

class Peers {
  public:
    // Listens on PATH, with the permissions of MODE. LOOP runs for as long as this lives.
    static Result<std::unique_ptr<Peers>> create(io::EventLoop& loop, const std::filesystem::path& path,
                                                 mode_t mode);
    ~Peers();

    // Who makes this call. From any thread. permission_denied: no token, or one that nobody holds.
    Result<Peer> of(const grpc::ServerContextBase& call) const;

  private:
    struct Connection {
        UniqueFd socket;
        std::string token;
        io::EventLoop::Registration watch;
    };

    Peers(io::EventLoop& loop, std::filesystem::path path, UniqueFd listener)
        : loop_(loop), path_(std::move(path)), listener_(std::move(listener)) {}
    Result<> listen();
    void accept();
    Result<> welcome(UniqueFd socket);
    void leave(uint64_t id);

    io::EventLoop& loop_;
    const std::filesystem::path path_;
    UniqueFd listener_;
    io::EventLoop::Registration watch_;
    io::EventLoop::Registration retry_;
    uint64_t next_id_ = 1;
    std::map<uint64_t, Connection> connections_;
    std::map<uid_t, size_t> connections_of_;
    mutable std::mutex mutex_;                        // of the following
    std::map<std::string, uid_t, std::less<>> users_; // by token
};

} // namespace lanepool::controller
