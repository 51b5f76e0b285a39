// SPDX-License-Identifier: Apache-2.0
//
// The server's side of one connection, from the version message to the end: checks each command, hands it to
// the handler, sends the answer. session.cc holds the life of a connection and of an answer; the commands
// are in session_info.cc (what there is), session_io.cc (regions, reset), session_dma.cc and session_irq.cc.
#pragma once

#include "vfio_user/capabilities.h"
#include "vfio_user/connection.h"
#include "vfio_user/dma_requests.h"
#include "vfio_user/handler.h"
#include "vfio_user/server.h"

#include <deque>
#include <map>

namespace lanepool::vfio_user {

class Session final : public Client, public std::enable_shared_from_this<Session> {
  public:
    struct Environment {
        io::EventLoop& loop;
        Handler& handler;
        const ServerOptions& options;
        ServerStats& stats;
        std::function<void(Session&)> ended; // called once, unless close() was called before
    };

    static Result<std::shared_ptr<Session>> create(Environment environment, UniqueFd socket);

    // As if the client had gone: the handler and `ended` are called.
    void drop(const Error& why);
    // Without a call to anybody.
    void close();
    bool peer_has_gone() const { return connection_->peer_has_gone(); }

    void dma_read(Iova address, size_t size_bytes,
                  std::function<void(Result<std::vector<std::byte>>)> answer) override;
    void dma_write(Iova address, std::span<const std::byte> data,
                   std::function<void(Result<>)> answer) override;
    bool speaks_lanepool() const override { return client_.lanepool.has_value(); }

    // A client that has so many commands, or so many bytes, unanswered is not read from until it has fewer.
    static constexpr size_t max_pending = 1024;
    static constexpr size_t max_pending_bytes = 8 << 20;
    // From the connection to the version message.
    static constexpr io::Duration handshake_timeout = std::chrono::seconds(5);

  private:
    using Ticket = uint64_t;

    // What a reply carries behind its header.
    struct Payload {
        std::vector<std::byte> bytes;
        std::vector<SharedFd> fds;
        template <class... Parts>
        static Payload of(const Parts&... parts) {
            Payload payload;
            (payload.append(wire::bytes_of(parts)), ...);
            return payload;
        }
        void append(std::span<const std::byte> more) { bytes.insert(bytes.end(), more.begin(), more.end()); }
    };
    // A command that has been received; its answer is given with the ticket, exactly once.
    struct Request {
        Ticket ticket;
        Message message;
        std::span<const std::byte> payload() const { return message.payload; }
    };
    struct Pending {
        uint16_t id;
        uint16_t command;
        bool wants_reply;
        size_t reserved_bytes; // that the answer may have
        io::TimePoint deadline;
    };

    explicit Session(Environment environment) : environment_(std::move(environment)) {}

    void on_message(Message message);
    Result<> negotiate(const Message& message);
    void dispatch(Request request);
    std::optional<Error> refusal(const Message& message) const;
    Ticket open_ticket(const wire::Header& header, size_t reserved_bytes);
    bool is_open(Ticket ticket) const { return pending_.contains(ticket); }
    void answer(Ticket ticket, Result<Payload> result);
    void send_reply(uint16_t id, uint16_t command, Payload payload);
    void update_pause();
    void arm_reply_timer();
    void expire_replies();
    void end(const Error& why);

    // Gives PAYLOAD when the handler has answered that it is done.
    Reply<void> reply_done(Ticket ticket, Payload payload);

    // session_info.cc
    Result<Payload> device_info(std::span<const std::byte> payload) const;
    Result<Payload> region_info(std::span<const std::byte> payload);
    Result<Payload> region_io_fds(std::span<const std::byte> payload) const;
    Result<Payload> irq_info(std::span<const std::byte> payload) const;
    Result<Payload> lanepool_region_memory(std::span<const std::byte> payload);
    Result<Payload> lanepool_region_event(std::span<const std::byte> payload);
    static Result<pci::Region> region_of(uint32_t index);

    // session_io.cc
    Result<> check_access(const wire::RegionAccess& access, bool write) const;
    Result<> region_read(const Request& request);
    Result<> region_write(const Request& request);
    Result<> region_write_multi(const Request& request);
    void reset(const Request& request);

    // session_dma.cc. Map and unmap are handled one after the other, also where the handler answers later:
    // a client may unmap a range and map it anew without waiting.
    void queue_dma(Request request);
    void next_dma();
    Result<> dma_map(Request& request);
    Result<> dma_unmap(const Request& request);
    void dma_done(Ticket ticket, Result<Payload> result);
    void unmap_entries(std::vector<Range<Iova>> ranges, std::function<void(Result<>)> done);

    // session_irq.cc
    Result<> set_irqs(Request& request);
    void assign_irqs(Ticket ticket, const wire::IrqSet& set, std::vector<UniqueFd> eventfds);
    void mask_irqs(Ticket ticket, const wire::IrqSet& set, const std::vector<uint32_t>& vectors, bool masked);

    Environment environment_;
    std::shared_ptr<Connection> connection_;
    bool running_ = false; // the version is agreed, the handler knows of the client
    bool ended_ = false;
    Capabilities client_;
    Capabilities server_;
    io::EventLoop::Registration handshake_timer_;

    Ticket next_ticket_ = 1;
    std::map<Ticket, Pending> pending_; // by age
    size_t reserved_bytes_ = 0;
    io::EventLoop::Registration reply_timer_;

    std::optional<DmaRequests> dma_requests_;

    std::map<uint64_t, Range<Iova>> dma_ranges_; // by start
    std::deque<Request> dma_queue_;
    bool dma_busy_ = false;

    // For the client's own triggers (VFIO_IRQ_SET_ACTION_TRIGGER without descriptors).
    std::map<std::pair<uint32_t, uint32_t>, UniqueFd> eventfds_; // by index and vector
};

} // namespace lanepool::vfio_user
