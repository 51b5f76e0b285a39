// SPDX-License-Identifier: Apache-2.0
//
// Who is at the other end of a call.
//
// From another machine: whose certificate TLS has verified. From this one: gRPC does not tell whose process
// has connected to a Unix socket. So the controller has a second socket beside it, of which the kernel tells
// (SO_PEERCRED): a client connects there first, and is given a random token that stands for its user for as
// long as that connection lasts. The token comes with every call as metadata. Nobody can guess it, and it
// cannot outlive the process to which it was given.
#pragma once

#include "controller/certificates.h"
#include "controller/peer.h"
#include "io/event_loop.h"

#include <filesystem>
#include <functional>
#include <grpcpp/server_context.h>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <sys/types.h>

namespace lanepool::controller {

class Peers {
  public:
    // LOOP runs for as long as this lives.
    explicit Peers(io::EventLoop& loop) : loop_(loop) {}
    ~Peers();

    // Before any call: hands out tokens at PATH, with the permissions of MODE.
    Result<> listen(const std::filesystem::path& path, mode_t mode);
    // Before any call: takes certificates.
    void trust(std::unique_ptr<Certificates> certificates);
    // Before any call: RECHECK is called, on the loop's thread, whenever it may be that a certificate does
    // not count any more; check() says whose do.
    void on_recheck(std::function<void()> recheck) { recheck_ = std::move(recheck); }
    // Before any call: KNOWN gets the name of each connection with which somebody was let in by his
    // certificate, at each call, on its thread.
    void on_known(std::function<void(const std::string& peer)> known) { known_ = std::move(known); }

    // Who makes this call. From any thread. permission_denied: no token, or one that nobody holds; a
    // certificate that is revoked or has expired.
    Result<Peer> of(const grpc::ServerContextBase& call) const;
    // The same, where only people may: permission_denied for the certificates of agents and controllers.
    Result<Peer> person(const grpc::ServerContextBase& call) const;
    // The same, where agents may ask as well, in the name of ON_BEHALF_OF, a user of their host: then it is
    // he who calls. Empty: as person(). permission_denied: it is no agent that says so.
    Result<Peer> asker(const grpc::ServerContextBase& call, const std::string& on_behalf_of) const;
    // The same, where it makes no difference who looks: people and agents.
    Result<Peer> onlooker(const grpc::ServerContextBase& call) const;
    // Whether who was let in by a certificate still is; permission_denied: not. From any thread.
    Result<> check(const pki::PeerIdentity& certificate) const;

  private:
    struct Connection {
        UniqueFd socket;
        std::string token;
        io::EventLoop::Registration watch;
    };

    // Where tokens are handed out.
    struct Desk {
        std::filesystem::path path;
        UniqueFd listener;
        io::EventLoop::Registration watch;
        io::EventLoop::Registration retry;
    };
    Result<> open(Desk& desk);
    void accept(Desk& desk);
    Result<> welcome(UniqueFd socket);
    void leave(uint64_t id);
    Result<Peer> by_token(const grpc::ServerContextBase& call) const;

    io::EventLoop& loop_;
    std::vector<std::unique_ptr<Desk>> desks_;
    std::unique_ptr<Certificates> certificates_;
    std::function<void(const std::string& peer)> known_ = [](const std::string&) {};
    std::function<void()> recheck_ = [] {};
    io::EventLoop::Registration timer_;
    uint64_t next_id_ = 1;
    std::map<uint64_t, Connection> connections_;
    std::map<uid_t, size_t> connections_of_;
    mutable std::mutex mutex_;                        // of the following
    std::map<std::string, uid_t, std::less<>> users_; // by token
};

} // namespace lanepool::controller
