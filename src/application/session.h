// SPDX-License-Identifier: Apache-2.0
//
// One process that uses this host's agent (docs/session-protocol.md): what it asks for is done, what it has
// is kept here, and all of it is given back when its connection ends.
#pragma once

#include "application/connection.h"
#include "application/devices.h"
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
    struct Device { // behind a device's handle
        std::shared_ptr<DeviceUse> use;
        Reply borrowed; // while it is being borrowed
        io::EventLoop::Registration deadline;
    };
    struct Mapped { // behind a mapping's handle
        uint64_t device = 0;
        Iova address;
        std::weak_ptr<Segment> segment; // what is mapped: this,
        uint64_t connection = 0;        // or this
        bool same_as(const Mapped& other) const { return device == other.device && address == other.address; }
    };
    struct Held {                               // behind a connection's handle
        std::shared_ptr<Connection> connection; // to a segment or an interrupt
        std::shared_ptr<void> closes;           // that connection, when nobody needs it any more
        ntb::Window window;                     // to a device's segment
        uint64_t device = 0;                    // whose BAR or segment it is; 0: neither
        bool open = false;
        ntb::Target target; // what it leads to; size 0: nothing that could be mapped for a device
        size_t maps = 0;    // of devices
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
    void close(uint64_t handle, const Reply& reply);
    void lost(uint64_t handle, const std::string& reason);
    Result<Connections::Wish> wish(const session::Json& body, const char* number) const;
    uint64_t segment_bytes() const;

    // session_interrupts.cc
    Result<> interrupt_create(session::Message& call, Reply reply);
    Result<> interrupt_remove(session::Message& call, Reply reply);
    Result<> interrupt_connect(session::Message& call, Reply reply);
    void export_event(const std::shared_ptr<Interrupt>& interrupt, Reply reply);

    // session_devices.cc
    Result<> device_list(session::Message& call, Reply reply);
    Result<> device_borrow(session::Message& call, Reply reply);
    Result<> device_return(session::Message& call, Reply reply);
    Result<> register_read(session::Message& call, Reply reply);
    Result<> register_write(session::Message& call, Reply reply);
    Result<> device_interrupt(session::Message& call, Reply reply);
    Result<> requester_register(session::Message& call, Reply reply);
    Result<> requester_unregister(session::Message& call, Reply reply);
    void device_ready(uint64_t handle, Result<> result);
    Answer describe(uint64_t handle, const DeviceUse& use) const;
    void device_lost(uint64_t handle, const std::string& reason);
    void forget_device(uint64_t handle);
    Result<std::shared_ptr<DeviceUse>> usable_device(const session::Json& body);

    // session_device_memory.cc
    Result<> device_bar(session::Message& call, Reply reply);
    Result<> device_segment_create(session::Message& call, Reply reply);
    Result<> device_segment_remove(session::Message& call, Reply reply);
    Result<> device_segment(session::Message& call, Reply reply);
    Result<> device_map(session::Message& call, Reply reply);
    Result<> device_unmap(session::Message& call, Reply reply);
    struct DeviceSegment;
    Result<Answer> device_segment_opened(uint64_t device, Result<DeviceSegment> opened);
    struct MapWish;
    Result<> map_segment(const MapWish& wish, const std::shared_ptr<Segment>& segment, Reply reply);
    Result<> map_connection(const MapWish& wish, uint64_t connection, Reply reply);
    void place(const MapWish& wish, const ntb::Target& memory, std::shared_ptr<void> keep, Mapped mapped,
               Reply reply);
    void count_map(const Mapped& mapped, bool more);
    // Takes away the mappings that are meant; THEN: no device uses them any more.
    void unmap(const std::function<bool(const Mapped&)>& meant, std::function<void()> then);
    // Those of what belongs to a device, for other devices (peer-to-peer).
    std::function<bool(const Mapped&)> of_others(uint64_t device) const;
    std::vector<Devices::Mapping> peer_mappings() const;

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
    std::map<uint64_t, Device> devices_;
    std::map<uint64_t, Mapped> mappings_;
    std::map<uint64_t, ntb::Adapter::Requester> requesters_;
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
