// SPDX-License-Identifier: Apache-2.0
//
// One process that uses this host's agent (docs/session-protocol.md): what it asks for is done, what it has
// is kept here, and all of it is given back when its connection ends.
#pragma once

#include "application/connection.h"
#include "application/shown.h"
#include "session/message.h"

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

namespace lanepool::application {

class Host;

class Session final : public Owner {
  public:
    // What a call is answered with.
    struct Answer {
        Fields fields;
        std::vector<SharedFd> fds;
    };
    using Reply = std::function<void(Result<Answer>)>;

    // ID is the host's. USER: whom the kernel names at the other end.
    Session(Host& host, uint64_t id, UniqueFd socket, std::string user);
    ~Session() override; // gives everything back
    Result<> start();

    void event(Fields fields, std::vector<SharedFd> fds) override;
    uint64_t new_handle() override { return next_handle_++; }

    const std::string& user() const { return user_; }
    size_t segments() const { return segments_.size(); }

  private:
    struct Held { // behind a connection's handle
        std::shared_ptr<Connection> connection;
        Connections::Way way; // once it is open; without descriptors
        bool open = false;
        size_t maps = 0; // of devices
    };
    struct Outgoing {
        Fields fields;
        std::vector<SharedFd> fds;
    };
    // An error is the call's answer; otherwise REPLY is called, now or later, once.
    using Handler = Result<> (Session::*)(session::Message& call, Reply reply);
    static Handler handler(const std::string& name);

    // The socket (session.cc).
    void ready(uint32_t events);
    Result<bool> receive_one();
    Result<> take(session::Message message);
    void send(Outgoing message);
    Result<> flush();
    void end(const Error& why);
    Reply reply_to(uint64_t id);

    Result<> hello(session::Message& call, Reply reply);
    Result<> nodes(session::Message& call, Reply reply);
    Result<> probe(session::Message& call, Reply reply);
    session::Json node_list() const;

    // session_segments.cc
    Result<> segment_create(session::Message& call, Reply reply);
    Result<> segment_attach(session::Message& call, Reply reply);
    Result<> segment_available(session::Message& call, Reply reply);
    Result<> segment_remove(session::Message& call, Reply reply);
    Result<> segment_connect(session::Message& call, Reply reply);
    Result<> disconnect(session::Message& call, Reply reply);
    Result<> give_memory(Segment& segment, session::Message& call);
    void set_available(const std::shared_ptr<Segment>& segment, Reply reply);
    void set_unavailable(const std::shared_ptr<Segment>& segment, Reply reply);
    Result<> connect(Connections::Wish wish, Reply reply);
    Result<Answer> connected(uint64_t handle, const Connections::Way& way);
    void lost(uint64_t handle, const std::string& reason);
    Result<Connections::Wish> wish(const session::Json& body, const char* number) const;
    uint64_t segment_bytes() const;

    // session_interrupts.cc
    Result<> interrupt_create(session::Message& call, Reply reply);
    Result<> interrupt_remove(session::Message& call, Reply reply);
    Result<> interrupt_connect(session::Message& call, Reply reply);
    void export_event(const std::shared_ptr<Interrupt>& interrupt, Reply reply);

    Host& host_;
    const uint64_t id_;
    UniqueFd socket_;
    const std::string user_;
    io::EventLoop::Registration watch_;
    std::deque<Outgoing> output_; // while there is some, nothing is read
    bool waits_for_room_ = false; // in the socket
    bool greeted_ = false;
    bool ended_ = false; // the host will destroy it soon
    size_t under_way_ = 0;
    uint64_t next_handle_ = 1;
    std::map<uint64_t, std::shared_ptr<Segment>> segments_;
    std::map<uint64_t, std::shared_ptr<Interrupt>> interrupts_;
    std::map<uint64_t, Held> connections_;
    std::shared_ptr<Session*> self_; // how an answer finds out whether we are still there
};

// "extents" of an answer, and their descriptors.
void add_extents(Session::Answer& answer, const std::vector<pci::Extent>& extents);
// A number of 32 bits. Errors: protocol.
Result<uint32_t> get_number32(const session::Json& body, const char* field);
// What HANDLES has. Errors: not_found.
template <class T>
Result<typename std::map<uint64_t, T>::iterator> get_handle(const session::Json& body, const char* field,
                                                            std::map<uint64_t, T>& handles) {
    const auto found = handles.find(TRY(session::get_number(body, field)));
    if (found == handles.end()) return fail(Errc::not_found, "the session has no such {}", field);
    return found;
}

} // namespace lanepool::application
