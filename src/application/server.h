// SPDX-License-Identifier: Apache-2.0
//
// Where applications' libraries reach this host's agent (docs/session-protocol.md). On the loop's thread.
#pragma once

#include "application/host.h"
#include "application/users.h"
#include "io/unix_socket.h"

#include <filesystem>
#include <memory>
#include <string>

namespace lanepool::application {

struct ServerOptions {
    std::filesystem::path socket;
    std::string users; // who may open sessions, as Users::parse() reads them
    std::string host;  // this host's name
    // Where devices are borrowed, and who is told that a loan does not work any more. Null: there are no
    // devices. Must outlive the server.
    Controller* controller = nullptr;
    Devices::Broken broken;
    io::Duration look_interval = std::chrono::seconds(2); // Devices'
};

class Server {
  public:
    // Listens. Errors: not_found (a user), already_exists (somebody else serves the socket).
    static Result<std::unique_ptr<Server>> create(io::EventLoop& loop, const ServerOptions& options);
    ~Server();

    // While the host is not on the fabric nobody is served.
    void fabric_up(ntb::Adapter& adapter, ntb::Channel& channel);
    void fabric_down(); // ends all sessions; nothing uses the adapter when it returns
    void peer_changed(ntb::Partition peer, bool alive);
    // A request with a kind from first_segment_kind to last_segment_kind.
    void serve(ntb::Partition from, uint16_t kind, std::vector<std::byte> body, ntb::ChannelReply reply);

    // The controller's steps for loans of access model smartio (Devices). Errors: unavailable.
    void attach(const AttachOrder& order, DeviceUse::Done done);
    void detach(uint64_t loan, DeviceUse::Done done);
    std::vector<Devices::Loan> loans() const;
    bool has_loan(uint64_t loan) const { return host_ && host_->devices().has(loan); }

    session::Json counts() const; // Host's

  private:
    Server(io::EventLoop& loop, const ServerOptions& options, Users users, UniqueFd listener)
        : loop_(loop), options_(options), users_(std::move(users)), listener_(std::move(listener)) {}
    Result<> listen();
    void accept();
    Result<> open_session(UniqueFd socket);

    // Somebody who is sent away: told why in the answer to what he asks first.
    struct Refused {
        UniqueFd socket;
        Error why;
        io::EventLoop::Registration watch;
        io::EventLoop::Registration deadline;
    };
    Result<> refuse(UniqueFd socket, Error why);
    void answer_refused(uint64_t id);

    io::EventLoop& loop_;
    const ServerOptions options_;
    const Users users_;
    UniqueFd listener_;
    io::EventLoop::Registration watch_;
    io::EventLoop::Registration retry_;
    uint64_t next_refused_ = 1;
    std::map<uint64_t, Refused> refused_;
    std::unique_ptr<Host> host_; // while it is on the fabric
};

} // namespace lanepool::application
